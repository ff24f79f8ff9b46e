"""The contract of probes: which labels they read, what they learn, and what is measured."""

from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

import torch
from torch import Tensor, nn

from fairseq_birq.data.manifest import parallel_lines
from fairseq_birq.errors import UserError
from fairseq_birq.tools.probes.layer_sum import LayerSum

LEFT_OUT = -1  # a frame without a label


@dataclass(frozen=True)
class Settings:
    """How a probe learns: Adam at a constant learning rate, gradients clipped to norm 1, as in s3prl."""

    updates: int
    lr: float = 1e-3
    batch_size: int = 32  # utterances
    size: int = 256  # width of the head


@dataclass
class Batch:
    """B utterances. T is 1 where a probe is satisfied with the mean over time (`needs_frames` is False)."""

    states: Tensor  # (B, T, K + 1, d) float32: all layers, 0 is what enters the first; anything on padding
    lengths: Tensor  # (B,) int64, frames
    targets: List[Tensor]  # per utterance (L,) int64; LEFT_OUT where there is none; len(classes) for one never trained on

    def padding_mask(self) -> Tensor:
        """(B, T) bool, True on padding."""
        return torch.arange(self.states.shape[1], device=self.lengths.device) >= self.lengths[:, None]


class Probe(nn.Module):
    """Base of the probes: a layer-weighted sum and a head. A subclass fills in everything that raises here.

    Args:
        num_states: K + 1.
        dim: d, the encoder's width.
        classes: what the training labels name, in order.
        size: width of the head.
        step_ms: encoder frame step.
    """

    suffix: str  # labels are in <split>.<suffix>
    needs_frames = False  # False: the mean over an utterance's frames is all it looks at
    measure = "accuracy"  # per cent; the key of `measures` that chooses the stopping point on dev and is reported on test
    higher_is_better = True
    settings: Settings  # for a small corpus
    superb: Settings  # the benchmark's own

    def __init__(self, num_states: int, dim: int, classes: Sequence[str], size: int, step_ms: float):
        super().__init__()
        self.classes = list(classes)
        self.layer_sum = LayerSum(num_states)

    @classmethod
    def read(cls, path, lengths: Sequence[int], step_seconds: float) -> List[List[str]]:
        """Per utterance the symbols it is labelled with; an empty one is none. lengths: frames per utterance.

        Here: one line per utterance, the whole line is the symbol.
        """
        lines = [line.strip() for line in parallel_lines(path, len(lengths))]
        if not all(lines):
            raise UserError(f"{path}, line {lines.index('') + 1}: is empty; every utterance needs a label")
        return [[line] for line in lines]

    def loss(self, batch: Batch) -> Tensor:
        """() float, differentiable."""
        raise NotImplementedError

    def outputs(self, batch: Batch) -> List[Tensor]:
        """Per utterance what `measures` compares with its targets."""
        raise NotImplementedError

    def measures(self, outputs: List[Tensor], targets: List[Tensor], trials=None) -> Dict[str, float]:
        """Numbers of a whole split. Here: the share of targets that outputs equal, in per cent."""
        outputs, targets = torch.cat(outputs), torch.cat(targets)
        labelled = targets != LEFT_OUT
        correct = (outputs == targets)[labelled]
        return {"accuracy": 100.0 * float(correct.double().mean()) if len(correct) else 0.0}

    @classmethod
    def chance(cls, train_targets: List[Tensor], targets: List[Tensor]) -> Optional[float]:
        """The measure of a probe that never listens. Here: that always names the most frequent training class."""
        counts = Counter(torch.cat(train_targets).tolist())
        counts.pop(LEFT_OUT, None)
        labelled = torch.cat(targets)
        labelled = labelled[labelled != LEFT_OUT]
        return 100.0 * float((labelled == counts.most_common(1)[0][0]).double().mean()) if len(labelled) else None


def mean_over_time(x: Tensor, padding_mask: Tensor) -> Tensor:
    """x: (B, T, ...) -> (B, ...), mean over frames that are no padding; zeros where there are none."""
    keep = (~padding_mask).to(x.dtype).view(*padding_mask.shape, *[1] * (x.dim() - 2))
    return torch.where(keep.bool(), x, torch.zeros_like(x)).sum(1) / keep.sum(1).clamp(min=1)
