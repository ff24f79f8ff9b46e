"""Decoding, labels, probes, audit, transcription, the loaded encoder on the pretend GPU: no mixed devices, the CPU's results."""

import contextlib
import importlib.util
import json

import pytest
import torch
from fairseq import options
from fairseq_cli.generate import main as generate

import fairseq_birq.doors  # noqa: F401
from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.cli import audit, export, labels, probe, transcribe
from fairseq_birq.data.frame_labels import LabelStore
from fairseq_birq.structs import Encoded
from tests.fixtures.audio import tone, waveform_batch, write_audio
from tests.fixtures.checkpoints import write_birq_checkpoint, write_ctc_checkpoint
from tests.fixtures.manifests import write_manifest, write_two_sounds
from tests.fixtures.on_device import fairseq_on

TEXTS = ["a cab", "bad dad", "a bad cab", "dad"]
LEXICON = "a\ta |\ncab\tc a b |\ndad\td a d |\nbad\tb a d |\n"


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    write_birq_checkpoint(tmp_path / "birq.pt")
    return tmp_path / "birq.pt"


@pytest.fixture
def twice(gpu):
    """The results of a function of a device's name on the CPU and on the pretend GPU, where it must mix no devices."""

    def twice(function, launches=50):
        on_cpu = function("cpu")
        with gpu.recording() as record:
            on_device = function(str(gpu.device))
        assert record.lines("mismatches") == {} and record.totals()["launches"] > launches
        return on_device, on_cpu

    return twice


DECODERS = {"greedy": (), "lexicon": ("--lexicon", "lexicon.txt", "--word-score", "2", "--beam", "20", "--nbest", "2")}


@pytest.mark.parametrize("decoder", DECODERS)
def test_fairseq_generate(tmp_path, capsys, twice, decoder):
    if decoder == "lexicon":
        pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    write_manifest(tmp_path, "test", seconds=(1.0, 1.5, 2.0, 2.5), texts=TEXTS)
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    content = torch.load(str(tmp_path / "ctc.pt"), weights_only=True)
    content["cfg"]["task"] = {"_name": "birq_asr", "data": str(tmp_path)}
    content["cfg"]["criterion"] = {"_name": "birq_ctc"}
    history = [{"criterion_name": "BirqCtcCriterion", "best_loss": None, "num_updates": 0, "lr_scheduler_state": {}}]
    content.update(optimizer_history=history, extra_state={"epoch": 1, "train_iterator": {}})
    torch.save(content, str(tmp_path / "ctc.pt"))
    arguments = [str(tmp_path), "--task", "birq_asr", "--path", str(tmp_path / "ctc.pt"), "--gen-subset", "test"]
    arguments += [str(tmp_path / value) if value == "lexicon.txt" else value for value in DECODERS[decoder]]

    def decode(device):
        with fairseq_on(device) if device != "cpu" else contextlib.nullcontext():
            generate(options.parse_args_and_arch(options.get_generation_parser(), [*arguments, "--scoring", "wer"]))
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        return [line for line in lines if line[0][:2] in ("D-", "T-", "H-")]

    on_device, on_cpu = twice(decode)
    assert [(line[0], line[-1]) for line in on_device] == [(line[0], line[-1]) for line in on_cpu]
    scores = [[float(line[1]) for line in lines if len(line) == 3] for lines in (on_device, on_cpu)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5) and len(scores[0]) >= 2 * len(TEXTS)


def test_birq_transcribe(tmp_path, capsys, twice):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    write_audio(tmp_path / "audio" / "one.wav", tone(1.0))
    write_audio(tmp_path / "audio" / "two.flac", tone(3.0, 8000), 8000)

    def text(device):
        assert transcribe.main([str(tmp_path / "ctc.pt"), str(tmp_path / "audio"), "--format", "ctm", "--device", device]) == 0
        return capsys.readouterr().out

    on_device, on_cpu = twice(text)
    assert on_device == on_cpu and len(on_cpu.splitlines()) > 4


FEW = ["--codebook-size", "8", "--fit-utterances", "2"]
CODES = {
    "raw_input": ["--source", "raw_input"],
    "layer": ["--layer", "2", "--normalisation", "whiten", "--num-codebooks", "3"],
    "clusters of MFCC": ["--features", "mfcc", *FEW],
    "clusters of a layer": ["--layer", "1", "--codebook", "kmeans", "--projection", "pca", "--codebook-dim", "4", *FEW],
    "refined codes": ["--features", "logmel", "--codebook", "random", "--refine", "1", *FEW],
}


@pytest.mark.parametrize("codes", CODES)
def test_birq_labels(tmp_path, checkpoint, twice, codes):
    if FEW[0] in CODES[codes]:
        pytest.importorskip("sklearn")
    write_manifest(tmp_path, seconds=(1.0, 1.5))

    def written(device):
        out = tmp_path / device.replace(":", "")
        given = [] if "--features" in CODES[codes] else [str(checkpoint)]
        assert labels.main([*given, str(tmp_path / "train.tsv"), str(out), *CODES[codes], "--device", device]) == 0
        store = LabelStore(out)
        return [torch.as_tensor(store.codes(row, 0, store.num_frames(row))) for row in range(2)]

    on_device, on_cpu = twice(written)
    assert all(torch.equal(mine, theirs) and len(mine) > 20 for mine, theirs in zip(on_device, on_cpu))


def test_every_probe(tmp_path, checkpoint, twice):
    data = tmp_path / "corpus"
    for split in ("train", "dev", "test"):
        write_two_sounds(data, split, utterances=4, seconds=0.8)
        write_manifest(data, split, seconds=[0.8] * 4, texts=["ab a", "b a"] * 2)
        for suffix in ("spk", "key", "emo"):
            (data / f"{split}.{suffix}").write_text("anna\nbert\n" * 2)
        (data / f"{split}.int").write_text("do\tlight\noff\tlight\n" * 2)

    def scores(device):
        out = tmp_path / device.replace(":", "")
        few = ["--updates", "2", "--size", "4", "--batch-size", "2"]
        assert probe.main(["all", str(checkpoint), str(data), *few, "--device", device, "--out", str(out)]) == 0
        return {one["task"]: one["test"] for one in json.loads((out / "results.json").read_text())}

    on_device, on_cpu = twice(scores)
    assert set(on_cpu) >= {"asr", "phone", "sid", "sv", "er", "ks", "ic"}
    for task, found in on_cpu.items():
        assert on_device[task] == pytest.approx(found, abs=1e-3), task


def test_birq_audit_where_there_is_an_accelerator(tmp_path, checkpoint, gpu):
    """It has no `--device`: what it computes stays on the CPU, whatever else there is."""
    sounds = write_two_sounds(tmp_path)
    arguments = [str(sounds / "train.tsv"), "--alignment", str(sounds / "train.phn"), "--out", str(tmp_path / "out")]
    with gpu.recording() as record:
        assert audit.main([*arguments, "--checkpoint", str(checkpoint), "--layers", "1", "--seeds", "1"]) == 0
    assert record.totals() == dict.fromkeys(record.totals(), 0)
    assert (tmp_path / "out" / "audit.json").exists()


def test_birq_export_writes_on_the_cpu_what_then_computes_on_the_device(tmp_path, checkpoint, gpu, twice):
    pytest.importorskip("safetensors")
    with gpu.recording() as record:
        assert export.main([str(checkpoint), str(tmp_path / "out"), "--to", "s3prl"]) == 0
    assert record.totals() == dict.fromkeys(record.totals(), 0)
    spec = importlib.util.spec_from_file_location("expert", tmp_path / "out" / "expert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    upstream = module.UpstreamExpert(str(tmp_path / "out" / "model.safetensors"))

    def states(device):
        with torch.no_grad():
            found = upstream.to(device)([torch.from_numpy(tone(seconds)).to(device) for seconds in (1.0, 0.7)])
        return torch.stack(found["hidden_states"]).cpu()

    on_device, on_cpu = twice(states, launches=20)
    torch.testing.assert_close(on_device, on_cpu, atol=1e-5, rtol=1e-5)


def test_load_encoder(checkpoint, twice):
    waveform, padding_mask, _ = waveform_batch(1.5, 1.0)

    def encoded(device):
        with torch.no_grad():
            found = load_encoder(checkpoint).to(device)(waveform.to(device), padding_mask.to(device))
        return Encoded([layer.cpu() for layer in found.layers], found.padding_mask.cpu(), found.subsampled.cpu())

    on_device, on_cpu = twice(encoded, launches=20)
    assert torch.equal(on_device.padding_mask, on_cpu.padding_mask)
    for mine, theirs in zip(on_device.layers, on_cpu.layers):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
