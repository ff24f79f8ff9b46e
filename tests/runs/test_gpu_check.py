"""`make gpu-check` on a CPU: every stage runs, and what is found is written whatever happens."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

SEEN = ["environment", "correctness", "precisions", "step", "levers", "batch sizes", "peers", "labels", "loading", "checkpoints"]


@pytest.fixture
def gpu(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import gpu

    return gpu


def failures(found, path=""):
    """Every `failed` in nested results."""
    if not isinstance(found, dict):
        return []
    here = [f"{path}: {found['failed']}"] if "failed" in found else []
    return here + [line for name, one in found.items() for line in failures(one, f"{path}/{name}")]


def runs(check):
    check.note(ran=True)


def test_every_stage_runs_on_a_cpu_and_its_table_names_the_device(repository, tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--tiny", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert list(results["stages"]) == [*SEEN, "tests"] and not failures(results["stages"])
    in_float32 = results["stages"]["correctness"]["birq"]["fp32"]
    assert in_float32["codes_equal"] == {"raw_input": 1.0, "own_layer": 1.0} and in_float32["gradient_cosine"] > 0.9999
    losses = results["stages"]["precisions"]["birq, bf16"]["losses"]
    assert [loss is None for loss in losses] == [False, False, True, False]
    assert results["stages"]["step"]["BiRQ C2"]["tflop"] > results["stages"]["step"]["BEST-RQ C2"]["tflop"] > 0
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# CPU, 1 threads, commit") and "the figures mean nothing" in page and "| BiRQ C2 |" in page


def test_a_stage_that_fails_or_takes_too_long_is_noted_and_the_next_begins(gpu, monkeypatch, tmp_path, capsys):
    def fails(check):
        check.note(first=1)
        raise ValueError("broken")

    def waits(check):
        signal.pause()

    monkeypatch.setattr(
        gpu, "STAGES", {"fails": (fails, 9), "waits": (waits, 0.2), "last": (lambda check: check.note(ran=True), 9)}
    )
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path), "--seconds", "60"]) == 0
    stages = json.loads((tmp_path / "gpu.json").read_text())["stages"]
    assert stages["fails"] == {"first": 1, "failed": "ValueError: broken"}
    assert stages["waits"] == {"failed": "TimeoutError: the stage's time is over"} and stages["last"] == {"ran": True}
    assert "- failed: ValueError: broken" in (tmp_path / "gpu.md").read_text()


def test_what_was_found_is_kept_where_the_run_is_stopped(gpu, monkeypatch, tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    stages = {
        "first": (lambda check: check.note(ran=True), 9),
        "stopped": (lambda check: os.kill(os.getpid(), signal.SIGTERM), 9),
    }
    monkeypatch.setattr(gpu, "STAGES", {**stages, "never": (lambda check: check.note(ran=True), 9)})
    try:
        assert gpu.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["stopped"] == "by signal SIGTERM" and results["stages"] == {"first": {"ran": True}}
    assert "Stopped by signal SIGTERM" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_sentence_says_what_to_do(gpu, tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path / "none")]) == 2 and not (tmp_path / "none").exists()
    assert "needs a CUDA device" in capsys.readouterr().err
    assert gpu.main(["--device", "cpu", "--only", "speed", "--out", str(tmp_path / "none")]) == 2
    assert "no stage speed; there are: environment, correctness" in capsys.readouterr().err
