"""The README's commands, run as they stand there, on a small folder of audio and with the tiny recipes."""

import re
import sys
from pathlib import Path

import pytest
import torch

from tests.fixtures.audio import tone, write_audio
from tests.fixtures.commands import free_port, shell

TINY = {"examples/best_rq --config-name mboshi_small": "examples/best_rq --config-name debug"}
TINY["examples/finetune --config-name mboshi_small"] = "examples/finetune --config-name debug"


def blocks(repository, language="", page="README.md"):
    text = (repository / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_from_a_folder_of_speech_to_a_word_error_rate_and_into_python(repository, tmp_path):
    texts = [f"{first} {second}" for first in ("one", "two", "six", "ten") for second in ("cats", "dogs", "ants", "owls")]
    for index in range(len(texts)):
        write_audio(tmp_path / "speech" / f"{index:02d}.wav", tone(1.5 + 0.05 * index, seed=index))
    (tmp_path / "text.tsv").write_text("".join(f"{index:02d}\t{text}\n" for index, text in enumerate(texts)))
    (script,) = [block for block in blocks(repository) if "birq-manifest" in block]
    for ours, theirs in {
        **TINY,
        "/data/speech": f"{tmp_path}/speech",
        "/data/manifests": f"{tmp_path}/manifests",
        "/data/text.tsv": f"{tmp_path}/text.tsv",
        "$PWD/runs": f"{tmp_path}/runs",
        "--path runs": f"--path {tmp_path}/runs",
        "--valid-fraction 0.05": "--valid-fraction 0.25",
        "dataset.train_subset=train ": "dataset.train_subset=train optimization.max_update=3 ",
    }.items():
        assert ours in script, f"the README no longer says {ours!r}"
        script = script.replace(ours, theirs)
    output = shell(script, repository)
    assert re.search(r"^Generate valid .*WER: [\d.]+", output, re.MULTILINE)
    assert output.count("\nH-") == output.count("\nT-") > 0

    waveform, padding_mask = torch.zeros(2, 16000), torch.zeros(2, 16000, dtype=torch.bool)
    names = {"waveform": waveform, "padding_mask": padding_mask, "x": torch.randn(5, 320)}
    for block in blocks(repository, "python"):
        block = block.replace('"runs/', f'"{tmp_path}/runs/')
        exec(compile(block, "README.md", "exec"), names)
    assert names["encoded"].layers[1].shape[:2] == (2, 24)
    assert names["codes"].shape == (5, 1)


def test_two_processes_on_cpus(repository, tmp_path):
    for index in range(8):
        write_audio(tmp_path / "speech" / f"{index}.wav", tone(1.5, seed=index))
    page = blocks(repository, page="examples/run/README.md")
    (script,) = [block for block in page if block.startswith("torchrun") and "common.cpu=true" in block]
    script = script.replace("/data/manifests", f"{tmp_path}/m").replace("$PWD/runs", f"{tmp_path}/runs")
    script = script.replace("--no-python", f"--master_port {free_port()} --no-python")
    script = script.replace("common.cpu=true", "common.cpu=true optimization.max_update=2")
    make = f"birq-manifest {tmp_path}/speech {tmp_path}/m --valid-fraction 0.25"
    shell(f"{make}\n{script}", repository)
    assert (tmp_path / "runs" / "two" / "checkpoint_last.pt").exists()


@pytest.mark.parametrize("path", [*(f"examples/{page}/README.md" for page in ("best_rq", "decode", "run")), "CONTRIBUTING.md"])
def test_links_lead_somewhere(repository, path):
    assert path in (repository / "README.md").read_text() and (repository / path).exists()


def test_the_demo_goes_the_whole_way_and_does_nothing_twice(repository, tmp_path):
    program = f"{sys.executable} examples/demo/run.py --out {tmp_path} --minutes 1 --pretrain-updates 3 --finetune-updates 3"
    output = shell(program, repository)
    rows = re.findall(r"^\| ([\w -]+) \| [\d.]+ \| [\d.]+ \|$", output, re.MULTILINE)
    assert rows == ["without pre-training", "BEST-RQ", "BiRQ"]
    pictures = re.findall(r"^picture, ([\w-]+): (.*)$", output, re.MULTILINE)
    assert [name for name, _ in pictures] == rows[1:]
    assert all(Path(picture).read_bytes().startswith(b"\x89PNG") for _, picture in pictures)
    assert shell(program, repository).count("done before") == 9
