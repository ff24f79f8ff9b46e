import pytest

from fairseq_birq.cli.doctor import main
from tests.fixtures.manifests import write_manifest


@pytest.fixture
def arguments(repository, tmp_path):
    for split in ("train", "valid"):
        write_manifest(tmp_path / "data", split, seconds=(1.0, 1.5, 2.0))
    given = {"common.user_dir": repository / "fairseq_birq"}
    given.update({"task.data": tmp_path / "data", "checkpoint.save_dir": tmp_path / "run"})
    recipe = ["--config-dir", str(repository / "examples/best_rq"), "--config-name", "debug"]
    return [*recipe, *(f"{key}={value}" for key, value in given.items())]


def test_a_run_that_would_start(arguments, capsys, tmp_path):
    assert main([*arguments, "common.cpu=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    subjects = {line.split()[1]: line for line in lines if line.startswith(("ok ", "warning "))}
    expected = {"python", "torch", "fairseq", "hydra", "config", "save_dir", "processes", "audio", "lengths"}
    assert expected | {"user_dir", "model", "disk", "memory", "time"} <= set(subjects)
    assert "train.tsv: 3 of 3 rows read, all good" in "\n".join(lines)
    assert "found by spawned processes" in subjects["user_dir"]
    assert "dataset.max_tokens up to " in subjects["memory"]
    assert lines[-1].startswith("debug.yaml would start: 0 problems")
    command = next(line for line in lines if line.startswith("    fairseq-hydra-train "))
    assert all(argument in command for argument in arguments)
    assert not (tmp_path / "run").exists()


def test_several_mistakes_are_named_together_and_the_status_is_1(arguments, capsys, tmp_path):
    (tmp_path / "data" / "valid.tsv").unlink()
    relative = [argument for argument in arguments if not argument.startswith("checkpoint.")]
    assert main([*relative, "checkpoint.save_dir=run", "--no-steps"]) == 1
    out = capsys.readouterr().out
    problems = [line for line in out.splitlines() if line.startswith("problem ")]
    assert len(problems) == 2 and "checkpoint.save_dir=$PWD/run" in problems[0] and "valid.tsv: no such manifest" in problems[1]
    assert "debug.yaml would not start: 2 problems" in out


def test_a_mistake_that_the_builders_find_is_reported(arguments, capsys):
    assert main([*arguments, "common.cpu=true", "model.encoder.num_heads=5"]) == 1
    assert "must divide `model.encoder.dim`" in capsys.readouterr().out


def test_the_installation_alone(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("a run would start: 0 problems")


@pytest.mark.parametrize("given, part", [(["nothing.yaml"], "no such configuration"), (["task.data=/x"], "name a configuration")])
def test_without_a_configuration_one_line_and_status_2(given, part, capsys):
    assert main(given) == 2
    captured = capsys.readouterr()
    assert part in captured.err and not captured.out
