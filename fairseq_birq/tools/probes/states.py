"""Hidden states of all layers of a corpus, computed once: what every probe learns from."""

import tempfile
from pathlib import Path
from typing import List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.measures.frames import all_frames, batches
from fairseq_birq.progress import progress
from fairseq_birq.tools.probes.base import mean_over_time


class StateStore:
    """States of the utterances of a manifest, in its order.

    Args:
        states: (M, K + 1, d) float16 or float32, all frames, one utterance after another; memory or a memory map.
        lengths: frames of each utterance.
    """

    def __init__(self, states: np.ndarray, lengths: Sequence[int]):
        self.states, self.lengths = states, torch.as_tensor(lengths, dtype=torch.int64)
        self.ends = self.lengths.cumsum(0)

    def __len__(self):
        return len(self.lengths)

    def batch(self, rows: Sequence[int]) -> Tuple[Tensor, Tensor]:
        """(B, T, K + 1, d) float32, zero on padding, and (B,) lengths."""
        lengths = self.lengths[torch.as_tensor(rows)]
        x = torch.zeros(len(rows), int(lengths.max()), *self.states.shape[1:])
        for place, (row, length) in enumerate(zip(rows, lengths.tolist())):
            end = int(self.ends[row])
            x[place, :length] = torch.from_numpy(np.array(self.states[end - length : end], dtype=np.float32))
        return x, lengths

    def means(self) -> "StateStore":
        """The mean over each utterance's frames, as one frame, float32."""
        means = [self.batch([row])[0][0].mean(0) for row in range(len(self))]
        return StateStore(torch.stack(means).numpy(), [1] * len(means))


@torch.no_grad()
def extract(
    encoder, manifest, needs_frames: bool = True, normalise: bool = False, memory_bytes: int = 4 << 30, device: str = "cpu"
) -> StateStore:
    """Run a frozen encoder over a manifest, with a progress bar.

    Args:
        encoder: a `SpeechEncoder` in eval mode; it stays as it is.
        manifest: path of a `.tsv`.
        needs_frames: False keeps the means over time alone, in float32; else all frames, in float16.
        normalise: layer-normalise every layer's frames (s3prl's option of the same kind), so that weights are comparable.
        memory_bytes: what exceeds this is on disk, in a temporary file that vanishes with the process.

    Raises:
        UserError: bad audio, an utterance without a frame, or states outside float16.
    """
    if encoder.training:
        raise ValueError("a frozen encoder must be in eval mode")
    names, lengths, kept = read_manifest(Path(manifest)), [], _Growing(memory_bytes)
    bar = progress(total=len(names), title=f"states of {Path(manifest).name}", unit="utterances")
    for net_input in batches(manifest, sample_rate=encoder.frontend.sample_rate):
        inputs = all_frames(encoder, {key: value.to(device) for key, value in net_input.items()})
        states = torch.stack([inputs.hidden[layer].float() for layer in sorted(inputs.hidden)], dim=2)
        if normalise:
            states = F.layer_norm(states, states.shape[-1:])
        found = inputs.selected.sum(1).tolist()
        if 0 in found:
            name = names.audio_path(len(lengths) + found.index(0))
            raise UserError(f"{name}: is too short for one encoder frame; leave it out of {manifest}")
        lengths += found
        if needs_frames:
            kept.append(_half(states[inputs.selected], manifest))
        else:
            kept.append(mean_over_time(states, ~inputs.selected).cpu().numpy())
        bar.update(len(found))
    bar.close()
    return StateStore(kept.whole(), lengths if needs_frames else [1] * len(lengths))


def _half(states: Tensor, manifest) -> np.ndarray:
    half = states.half().cpu()
    if not torch.isfinite(half).all():
        raise UserError(f"{manifest}: hidden states do not fit float16 (above 65504 or not finite); use --normalise-layers")
    return half.numpy()


class _Growing:
    """Arrays (m, ...) one after another; in memory while they are at most `limit` bytes, then in a temporary file."""

    def __init__(self, limit: int):
        self.limit, self.size, self.parts, self.file = limit, 0, [], None

    def append(self, part: np.ndarray) -> None:
        self.shape, self.dtype = part.shape[1:], part.dtype
        self.parts.append(part)
        self.size += part.nbytes
        if self.size > self.limit:
            self.file = self.file or tempfile.TemporaryFile(prefix="birq-probe-")
            for waiting in self.parts:
                self.file.write(np.ascontiguousarray(waiting).tobytes())
            self.parts: List[np.ndarray] = []

    def whole(self) -> np.ndarray:
        if self.file is None:
            return np.concatenate(self.parts)
        self.file.flush()
        rows = self.size // (int(np.prod(self.shape)) * self.dtype.itemsize)
        return np.memmap(self.file, dtype=self.dtype, mode="r", shape=(rows, *self.shape))
