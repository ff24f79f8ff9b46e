"""One step of a stream as ONNX: a chunk's samples and what was kept of those before it in, hidden states out."""

import json
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from fairseq_birq.encoders.conformer import LayerPast
from fairseq_birq.encoders.speech_encoder import SpeechEncoder
from fairseq_birq.encoders.stream_step import Past, StreamStep
from fairseq_birq.errors import UserError
from fairseq_birq.modules.ctc_frames import ctc_frames
from fairseq_birq.modules.running_norm import Heard
from fairseq_birq.structs import Chunks
from fairseq_birq.tools.export.onnx import OPSET, quiet, require_onnx
from fairseq_birq.tools.export.safetensors import check_is_log_mel_conformer

CHUNK_MS, LEFT_CHUNKS = 640.0, 8
PAST = ("count", "sums", "squares", "features", "subsampled", "keys", "values", "convolved")


class OnnxStep(nn.Module):
    """`StreamStep` of one stream with tensors of fixed shapes: keys and values of all L frames of left context are kept.

    Args:
        speech_encoder: a causal log-Mel Conformer.
        chunks: with limited left context.
        output: the layer over letters of a fine-tuned model, or None.
        upsample: CTC frames per encoder frame.
    """

    def __init__(self, speech_encoder: SpeechEncoder, chunks: Chunks, output: Optional[nn.Linear] = None, upsample: int = 1):
        super().__init__()
        assert chunks.left is not None
        self.step, self.output, self.upsample = StreamStep(speech_encoder), output, upsample
        self.num_frames, self.num_kept = chunks.num_frames, chunks.left * chunks.num_frames

    def beginning(self) -> Dict[str, Tensor]:
        """The inputs of a first step, but for its samples: zeros."""
        past = self.step.nothing(num_kept=self.num_kept)
        frames = {"valid_frames": torch.tensor(self.num_frames), "frames_before": torch.tensor(0)}
        return {**frames, **dict(zip(PAST, _flat(past)))}

    def forward(self, waveform: Tensor, valid_frames: Tensor, frames_before: Tensor, *past: Tensor):
        """One chunk of C encoder frames.

        Args:
            waveform: (1, samples(C)) float32; zeros after the end of the recording.
            valid_frames: () int64: C, in the last chunk fewer.
            frames_before: () int64: encoder frames of all steps before.
            past: what the step before gave under the names of `PAST`.

        Returns:
            (1 + K, 1, C, d) hidden states, with an `output` (1, C * upsample, V) log-probabilities, `frames_before` of the
            next step and its past.
        """
        keys = torch.arange(self.num_kept + self.num_frames) - self.num_kept
        keep = ((keys >= -frames_before) & (keys < valid_frames))[None, None, None]
        hidden, after = self.step(waveform, _unflat(past), keep)
        results = [torch.stack(hidden)]
        if self.output is not None:
            results.append(ctc_frames(self.output(hidden[-1]), self.upsample).log_softmax(-1))
        kept = [layer._replace(keys=self._last(layer.keys), values=self._last(layer.values)) for layer in after.layers]
        return (*results, frames_before + valid_frames, *_flat(after._replace(layers=tuple(kept))))

    def _last(self, x: Tensor) -> Tensor:
        return x[:, self.num_frames :]


def _flat(past: Past) -> List[Tensor]:
    layers = [torch.stack([getattr(layer, name) for layer in past.layers]) for name in LayerPast._fields]
    return [*past.heard, *past.subsampled, *layers]


def _unflat(past: Tuple[Tensor, ...]) -> Past:
    layers = tuple(LayerPast(*parts) for parts in zip(*(part.unbind(0) for part in past[5:])))
    return Past(Heard(*past[:3]), (past[3], past[4]), layers)


def write_onnx_stream(encoder, cfg, out, checkpoint, chunk_ms: float = CHUNK_MS, left_chunks: int = LEFT_CHUNKS) -> None:
    """`model.onnx` in the folder `out`, and `stream.json` with its names, shapes and sizes.

    Args:
        encoder: `SpeechEncoder`.
        cfg: the checkpoint's model settings.
        checkpoint: its whole content; a fine-tuned one's step gives log-probabilities of letters too.
        chunk_ms, left_chunks: see `SpeechEncoder.chunks`.

    Raises:
        UserError: the encoder cannot stream, the chunks cannot be, or onnx and onnxscript are missing.
    """
    check_is_log_mel_conformer(cfg)
    encoder.check_streams()
    chunks = encoder.chunks(chunk_ms, left_chunks)
    if not chunks.left:
        raise UserError(f"a step of fixed size keeps 1 chunk of left context or more, but `left_chunks` is {left_chunks}")
    require_onnx()
    step = OnnxStep(encoder, chunks, *_output_layer(cfg, checkpoint)).eval()
    given = {"waveform": torch.zeros(1, step.step.samples(chunks.num_frames)), **step.beginning()}
    results = ["hidden_states", *(["log_probs"] if step.output is not None else []), "next_frames_before"]
    names = [*results, *(f"next_{name}" for name in PAST)]
    with quiet():
        torch.onnx.export(
            step,
            tuple(given.values()),
            str(Path(out) / "model.onnx"),
            input_names=list(given),
            output_names=names,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    (Path(out) / "stream.json").write_text(json.dumps(_described(step, given, names, encoder), indent=2) + "\n")


def _output_layer(cfg, checkpoint) -> Tuple[Optional[nn.Linear], int]:
    weights = {name: checkpoint["model"].get(f"output.{name}") for name in ("weight", "bias")}
    if weights["weight"] is None:
        return None, 1
    layer = nn.Linear(weights["weight"].shape[1], weights["weight"].shape[0])
    layer.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return layer, cfg.upsample


def _described(step: OnnxStep, given, names, encoder) -> dict:
    return {
        "sample_rate": encoder.frontend.sample_rate,
        "samples": step.step.samples(step.num_frames),
        "samples_to_next_step": step.num_frames * step.step.step_samples,
        "frames": step.num_frames,
        "left_frames": step.num_kept,
        "inputs": {name: {"shape": list(tensor.shape), "type": str(tensor.dtype)[6:]} for name, tensor in given.items()},
        "outputs": names,
        "how": "Begin with zeros in every input but waveform and valid_frames. After each step, next_X becomes X.",
    }
