import re
import subprocess
import sys

import pytest

from fairseq_birq.cli.labels import main
from fairseq_birq.data.frame_labels import LabelStore, read_info
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_manifest


@pytest.fixture
def given(tmp_path):
    """Checkpoint, manifest and an empty place."""
    write_birq_checkpoint(tmp_path / "birq.pt")
    write_manifest(tmp_path, seconds=(1.0, 1.5))
    return [str(tmp_path / "birq.pt"), str(tmp_path / "train.tsv"), str(tmp_path / "out")]


def test_a_layer_with_all_its_settings(given, capsys):
    numbers = {"num-codebooks": 3, "codebook-size": 40, "codebook-dim": 5, "seed": 7, "statistics-utterances": 1}
    options = [part for key, value in numbers.items() for part in (f"--{key}", str(value))]
    for shard in ("0/2", "1/2"):
        assert main([*given, "--layer", "2", "--normalisation", "whiten", *options, "--shard", shard, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "shard 1/2: 1 utterances, 37 frames\nperplexity of the codes: " in out and out.endswith(" of 40\n")
    info = LabelStore(given[2]).info
    expected = {"layer": 2, "normalisation": "whiten", **{key.replace("-", "_"): value for key, value in numbers.items()}}
    assert info.source == expected and (info.num_codebooks, info.codebook_size, info.num_shards) == (3, 40, 2)


def test_the_stored_command_makes_the_same_job(given, tmp_path):
    assert main([*given, "--layer", "1", "--codebook-size", "16", "--shard", "0/2"]) == 0
    command = read_info(given[2]).command.split()
    assert command[0] == "birq-labels" and main([*command[1:], "--shard", "1/2"]) == 0
    LabelStore(given[2])
    assert main([given[0], given[1], str(tmp_path / "like"), "--like", given[2]]) == 0
    assert read_info(tmp_path / "like").source == read_info(given[2]).source


@pytest.mark.parametrize(
    "options, part",
    [
        (["--source", "own_layer"], "no target source `own_layer`"),
        (["--source", "raw_input", "--num-codebooks", "2"], "--num-codebooks works with --layer or --features only"),
        (["--like", "/absent", "--seed", "2"], "--seed works with --layer or --features only"),
        (["--like", "/absent"], "/absent/labels.json: no such file"),
        (["--layer", "9"], "--layer must be from 1 to 2"),
        (["--layer", "1", "--shard", "3/3"], "--shard must be i/n"),
        (["--layer", "9", "--codebook", "kmeans"], "--layer must be from 1 to 2"),
        (["--layer", "1", "--codebook", "kmeans"], "61 frames are too few for 500 clusters"),
        (["--layer", "1", "--refine", "2", "--statistics-utterances", "3"], "for fitted ones it is --fit-utterances"),
        (["--layer", "1", "--normalisation", "none"], "--normalisation none is of fitted codes"),
        (["--source", "raw_input", "--codebook", "kmeans"], "--codebook works with --layer or --features only"),
        (["--features", "mfcc", "--normalisation", "whiten"], "normalisation of mfcc is 'whiten'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(given, capsys, options, part):
    assert main([*given, *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: ") and part in captured.err and not captured.out


@pytest.mark.parametrize("options", [[], ["--layer", "1", "--source", "raw_input"], ["--layer", "1", "--normalisation", "x"]])
def test_one_kind_of_codes_is_named(given, options):
    with pytest.raises(SystemExit) as exit_:
        main([*given, *options])
    assert exit_.value.code == 2


@pytest.mark.parametrize("place, part", [(0, "checkpoint .*absent does not exist"), (1, "absent: no such manifest")])
def test_missing_files_are_named(given, tmp_path, capsys, place, part):
    given[place] = str(tmp_path / "absent")
    assert main([*given, "--source", "raw_input"]) == 2
    assert re.search(part, capsys.readouterr().err)


def test_labels_of_audio_alone_need_no_checkpoint_and_those_of_a_layer_do(given, tmp_path, capsys):
    pytest.importorskip("sklearn")
    _, manifest, out = given
    assert main([manifest, out, "--features", "mfcc", "--codebook-size", "5"]) == 0
    assert "of 5\n" in capsys.readouterr().out and read_info(out).checkpoint_sha256 == ""
    assert main([manifest, str(tmp_path / "like"), "--like", out]) == 0
    assert read_info(tmp_path / "like").codes_fingerprint == read_info(out).codes_fingerprint
    assert main([manifest, str(tmp_path / "layer"), "--layer", "1", "--codebook", "kmeans"]) == 2
    assert "name a CHECKPOINT before the manifest" in capsys.readouterr().err
    assert main([given[0], "--like", out, manifest, str(tmp_path / "other")]) == 2  # options between the positionals
    assert "made with another checkpoint" in capsys.readouterr().err


def test_the_command_exits_with_the_status(given):
    command = [sys.executable, "-m", "fairseq_birq.cli.labels", "/absent", *given[1:], "--source", "raw_input"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1] == "error: checkpoint /absent does not exist"
