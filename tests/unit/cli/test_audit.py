import pytest

from fairseq_birq.cli.audit import main
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_two_sounds
from tests.fixtures.pictures import looks_drawn


@pytest.fixture
def sounds(tmp_path):
    write_birq_checkpoint(tmp_path / "c.pt")
    return write_two_sounds(tmp_path)


def test_the_raw_input_and_layers(sounds, tmp_path, capsys):
    out, settings = tmp_path / "out", ["model.quantizer.codebook_size=32", "--seeds", "1", "2"]
    given = [str(sounds / "train.tsv"), "--alignment", str(sounds / "train.phn"), "--out", str(out)]
    assert main([*given, *settings]) == 0
    text = capsys.readouterr().out
    assert "| utterance+frame |" in text and "32 codes." in text and "model.targets.raw_input.quantizer_norm=" in text
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "audit.md", "audit.png"]
    assert main([*given, "--checkpoint", str(tmp_path / "c.pt"), "--layers", "1", "2", "--seeds", "4"]) == 0
    text = capsys.readouterr().out
    assert "| layer 2, whiten |" in text and "16 codes." in text and "model.targets.own_layer.layers=[" in text
    assert looks_drawn(out / "audit.png", 20000)


def test_fitted_codes_stand_beside_the_random_ones(sounds, tmp_path, capsys):
    pytest.importorskip("sklearn")
    sizes, kinds = ["model.quantizer.codebook_size=4", "model.quantizer.codebook_dim=3"], ["kmeans", "pca", "refined"]
    options = ["--alignment", str(sounds / "train.phn"), "--out", str(tmp_path / "out"), "--seeds", "1"]
    assert main([str(sounds / "train.tsv"), *sizes, *options, "--fitted", *kinds]) == 0
    text = capsys.readouterr().out
    assert all(f"| {place}, {kind} |" in text for place in ("mfcc", "logmel") for kind in kinds) and "| frame |" in text
    trained = ["--checkpoint", str(tmp_path / "c.pt"), "--layers", "2"]
    assert main([str(sounds / "train.tsv"), *sizes, *options, *trained, "--fitted", "kmeans", "whitened_pca"]) == 0
    text = capsys.readouterr().out
    assert "| layer 2, kmeans |" in text and "| layer 2, whitened_pca |" in text and "| layer 2, whiten |" in text
    assert main([str(sounds / "train.tsv"), "model.quantizer.codebook_size=5000", *options, "--fitted", "kmeans"]) == 2
    assert "frames are too few for 5000 clusters" in capsys.readouterr().err


@pytest.mark.parametrize("options, part", [([], "absent.tsv: no such manifest"), (["--layers", "1"], "--layers needs")])
def test_a_mistake_is_one_line_and_status_2(tmp_path, capsys, options, part):
    assert main([str(tmp_path / "absent.tsv"), *options, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and part in captured.err and not captured.out
    assert captured.err.count("\n") == 1 and not (tmp_path / "out").exists()
