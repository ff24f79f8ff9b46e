import pytest

from fairseq_birq.cli.export import main
from tests.fixtures.checkpoints import write_birq_checkpoint


def test_one_command_makes_the_folder(tmp_path, capsys):
    write_birq_checkpoint(tmp_path / "birq.pt")
    assert main([str(tmp_path / "birq.pt"), str(tmp_path / "deep" / "out"), "--to", "safetensors"]) == 0
    assert "load.py, model.safetensors" in capsys.readouterr().out


def test_the_model_card_is_of_one_format(tmp_path, capsys):
    write_birq_checkpoint(tmp_path / "birq.pt")
    command = [str(tmp_path / "birq.pt"), str(tmp_path / "out"), "--licence", "mit", "--to"]
    assert main([*command, "safetensors"]) == 2 and not (tmp_path / "out").exists()
    assert "--licence is for the model card" in capsys.readouterr().err
    assert main([*command, "huggingface"]) == 0 and "license: mit" in (tmp_path / "out" / "README.md").read_text()


pytest.importorskip("safetensors")

MISTAKES = [("none.pt", "out", "none.pt does not exist"), ("birq.pt", ".", "is there already")]


@pytest.mark.parametrize("checkpoint, out, said", MISTAKES)
def test_mistakes_are_one_line(tmp_path, capsys, checkpoint, out, said):
    write_birq_checkpoint(tmp_path / "birq.pt")
    before = sorted(tmp_path.iterdir())
    assert main([str(tmp_path / checkpoint), str(tmp_path / out), "--to", "s3prl"]) == 2
    assert said in capsys.readouterr().err and sorted(tmp_path.iterdir()) == before
