"""onnxruntime gives our hidden states for batches and lengths other than those of the export."""

import numpy as np
import pytest
import torch

from fairseq_birq.tools.export.folder import export
from fairseq_birq.tools.export.traceable import TraceableEncoder
from tests.fixtures.audio import waveform_batch
from tests.fixtures.exports import assert_same

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_any_batch_and_length(one_layer, tmp_path):
    path, model = one_layer
    assert export(path, tmp_path / "out", "onnx") == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    for seconds in ((1.5, 1.1, 0.8), (2.0,), (0.31, 3.7)):
        waveform, padding_mask, _ = waveform_batch(*seconds)
        hidden, frame_padding = session.run(None, {"waveform": waveform.numpy(), "padding_mask": padding_mask.numpy()})
        assert hidden.dtype == np.float32
        with torch.no_grad():
            expected = model.speech_encoder(waveform, padding_mask)
        assert_same(expected, torch.from_numpy(hidden), torch.from_numpy(frame_padding), atol=1e-4)


def test_audio_too_short_for_a_frame_gives_no_frame(one_layer, tmp_path):
    path, model = one_layer
    export(path, tmp_path / "out", "onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    for samples in (1, 399, 400, 879, 880, 1519, 1520):
        waveform, padding_mask, _ = (tensor[..., :samples] for tensor in waveform_batch(1.0, 1.0))
        hidden, frame_padding = session.run(None, {"waveform": waveform.numpy(), "padding_mask": padding_mask.numpy()})
        with torch.no_grad():
            expected = model.speech_encoder(waveform, padding_mask)
        assert frame_padding.shape[1] == model.speech_encoder.output_length(samples)
        assert_same(expected, torch.from_numpy(hidden), torch.from_numpy(frame_padding), atol=1e-4)


@pytest.mark.parametrize("how", ["trace", "export"])
def test_torch_can_follow_it(conformer, batch, how):
    """What `SpeechEncoder` refuses with the advice to use this."""
    encoder = TraceableEncoder(conformer[1].speech_encoder).eval()
    followed = torch.jit.trace(encoder, batch) if how == "trace" else torch.export.export(encoder, batch).module()
    with torch.no_grad():
        assert_same(conformer[1].speech_encoder(*batch), *followed(*batch))
