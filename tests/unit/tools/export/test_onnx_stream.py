"""onnxruntime, step by step, gives what the whole recording gives in the same chunks."""

import json

import numpy as np
import pytest
import torch

from fairseq_birq.cli.export import main
from fairseq_birq.errors import UserError
from fairseq_birq.tools.export.folder import export
from fairseq_birq.tools.export.onnx_stream import PAST, OnnxStep
from tests.fixtures.audio import tone
from tests.fixtures.checkpoints import write_birq_checkpoint, write_ctc_checkpoint

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
STREAMS = {"frontend": {"feature_norm": "running"}, "encoder": {"causal": True}}


def stepped(run, described, wave):
    """(frames, outputs by name) of every step of a recording, from the description beside the model alone."""
    kept = {name: np.zeros(one["shape"], one["type"]) for name, one in described["inputs"].items()}
    begin, frame = 0, described["samples_to_next_step"] // described["frames"]
    extra = described["samples"] - described["samples_to_next_step"]
    while True:
        part = wave[begin : begin + described["samples"]]
        valid = min(described["frames"], max(0, (len(part) - extra) // frame))
        if not valid:
            return
        kept["waveform"] = np.pad(part, (0, described["samples"] - len(part)))[None]
        kept["valid_frames"] = np.array(valid)
        outputs = run(kept)
        kept.update({name[5:]: value for name, value in outputs.items() if name.startswith("next_")})
        yield valid, outputs
        begin += described["samples_to_next_step"]


@torch.no_grad()
def test_steps_in_onnxruntime(tmp_path):
    model = write_ctc_checkpoint(tmp_path / "ctc.pt", **STREAMS, upsample=2)
    assert (
        main([str(tmp_path / "ctc.pt"), str(tmp_path / "out"), "--to", "onnx-stream", "--chunk-ms", "160", "--left-chunks", "2"])
        == 0
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    described = json.loads((tmp_path / "out" / "stream.json").read_text())
    wave, encoder = tone(1.29), model.speech_encoder
    steps = list(stepped(lambda kept: dict(zip(described["outputs"], session.run(None, kept))), described, wave))
    whole = encoder(torch.from_numpy(wave)[None], chunks=encoder.chunks(160, 2))
    hidden = np.concatenate([outputs["hidden_states"][:, :, :valid] for valid, outputs in steps], axis=2)
    np.testing.assert_allclose(hidden, torch.stack([whole.subsampled, *whole.layers]).numpy(), rtol=1e-5, atol=1e-4)  # of 20
    scores = np.concatenate([outputs["log_probs"][:, : 2 * valid] for valid, outputs in steps], axis=1)
    expected = model.output(whole.last).view(1, -1, 9).log_softmax(-1)
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-5, atol=1e-4)
    assert len(steps) == 8 and steps[-1][0] < 4


@torch.no_grad()
@pytest.mark.parametrize("changes", [{"positions": "relative"}, {"attention_window": 3}, {"conv_kernel": 1}])
def test_the_step_that_is_exported(tmp_path, changes):
    model = write_birq_checkpoint(tmp_path / "birq.pt", {"frontend": STREAMS["frontend"]}, causal=True, **changes).eval()
    encoder, wave = model.speech_encoder, tone(1.0)
    step = OnnxStep(encoder, encoder.chunks(120, 1)).eval()
    shapes = {name: {"shape": list(x.shape), "type": str(x.dtype)[6:]} for name, x in step.beginning().items()}
    described = {"inputs": shapes, "samples": 3 * 640 + 240, "samples_to_next_step": 3 * 640, "frames": 3}

    def run(kept):
        given = [torch.from_numpy(np.asarray(kept[name])) for name in ("waveform", "valid_frames", "frames_before", *PAST)]
        return dict(
            zip(["hidden_states", "next_frames_before", *(f"next_{name}" for name in PAST)], [x.numpy() for x in step(*given)])
        )

    hidden = np.concatenate([outputs["hidden_states"][:, :, :valid] for valid, outputs in stepped(run, described, wave)], axis=2)
    whole = encoder(torch.from_numpy(wave)[None], chunks=encoder.chunks(120, 1))
    np.testing.assert_allclose(hidden, torch.stack([whole.subsampled, *whole.layers]).numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"chunk_ms": 20.0}, "shorter than an encoder frame"),
        ({"left_chunks": 0}, "keeps 1 chunk of left context or more"),
        ({"left_chunks": -1}, "must be a whole number of chunks"),
    ],
)
def test_chunks_that_cannot_be_are_refused(tmp_path, options, message):
    write_ctc_checkpoint(tmp_path / "ctc.pt", **STREAMS)
    with pytest.raises(UserError, match=message):
        export(tmp_path / "ctc.pt", tmp_path / "out", "onnx-stream", **options)
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_sees_the_future_and_options_of_other_formats_are_refused(tmp_path, capsys):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    for arguments, message in (
        (["--to", "onnx-stream"], "model.encoder.causal: true"),
        (["--to", "onnx", "--chunk-ms", "640"], "--chunk-ms: only `--to onnx-stream` has chunks"),
    ):
        assert main([str(tmp_path / "ctc.pt"), str(tmp_path / "out"), *arguments]) == 2
        assert message in capsys.readouterr().err
