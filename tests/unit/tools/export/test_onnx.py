"""onnxruntime gives our hidden states for batches and lengths other than those of the export."""

import numpy as np
import pytest
import torch

from fairseq_birq.tools.export.folder import export
from tests.fixtures.synth import waveform_batch
from tests.unit.tools.export.test_safetensors import assert_same

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
