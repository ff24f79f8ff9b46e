"""Every kind of picture from the command line, and what it says to mistakes."""

import json

import pytest

from fairseq_birq.cli.plot import KINDS, main
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_two_sounds
from tests.fixtures.pictures import looks_drawn


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """{kind: arguments} on two sounds and a tiny checkpoint."""
    folder = write_two_sounds(tmp_path_factory.mktemp("sounds"), utterances=10, seconds=1.2)
    write_birq_checkpoint(folder / "c.pt")
    log, weights, spoken = folder / "run" / "train.log", folder / "w.json", folder / "train.spk"
    log.parent.mkdir()
    log.write_text("".join(json.dumps({"num_updates": n, "loss": 9 - n}) + "\n" for n in range(4)))
    weights.write_text('{"ASR": [0.2, 0.8]}')
    spoken.write_text("one\ntwo\n" * 5)
    checkpoint, manifest = str(folder / "c.pt"), ["--manifest", str(folder / "train.tsv")]
    phones = ["--alignment", str(folder / "train.phn")]
    return {
        "curves": [str(log), f"again={log}"],
        "layer-weights": [str(weights)],
        "codes": [checkpoint, *manifest, *phones],
        "tsne": [checkpoint, *manifest, *phones, "--layers", "1", "--speakers", str(spoken), "--points", "8"],
        "utterance": [checkpoint, *manifest, *phones, "--row", "1", "--before", checkpoint],
        "cka": [checkpoint, checkpoint, *manifest],
    }


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_is_drawn(arguments, kind, tmp_path, capsys):
    if kind == "tsne":
        pytest.importorskip("sklearn")
    out = tmp_path / f"{kind}.png"
    assert main([kind, *arguments[kind], "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n" and looks_drawn(out)


def test_a_mistake_is_one_line_and_status_2(tmp_path, capsys):
    assert main(["curves", str(tmp_path / "absent.log"), "--out", str(tmp_path / "x.png")]) == 2
    assert capsys.readouterr().err.startswith("error: ") and not list(tmp_path.iterdir())
