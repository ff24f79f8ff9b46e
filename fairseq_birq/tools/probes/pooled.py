"""Probes of whole utterances: mean over time between two linear layers, SUPERB's head for SID, KS, IC and ER.

Nothing between the layer sum and the mean is non-linear, so the mean of every layer's frames says as much as the frames,
and is what is kept of a corpus.
"""

from typing import List, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.data.manifest import parallel_lines
from fairseq_birq.errors import UserError
from fairseq_birq.tools.probes.base import Batch, Probe, Settings, mean_over_time


class Pooled(Probe):
    """Layer sum, linear layer to `size`, mean over time, linear layer to the classes; cross-entropy."""

    settings = Settings(updates=2000)
    superb = Settings(updates=200000, lr=1e-4)

    def __init__(self, num_states: int, dim: int, classes: Sequence[str], size: int, step_ms: float):
        super().__init__(num_states, dim, classes, size, step_ms)
        self.projector = nn.Linear(dim, size)
        self.output = nn.Linear(size, len(classes))

    def logits(self, batch: Batch) -> Tensor:
        """(B, classes) float."""
        return self.output(mean_over_time(self.projector(self.layer_sum(batch.states)), batch.padding_mask()))

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.logits(batch), torch.cat(batch.targets))

    def outputs(self, batch: Batch) -> List[Tensor]:
        return list(self.logits(batch).argmax(-1, keepdim=True))


class Speaker(Pooled):
    """Speaker identification (VoxCeleb1 in SUPERB)."""

    suffix = "spk"


class Keyword(Pooled):
    """Keyword spotting (Speech Commands in SUPERB)."""

    suffix = "key"


class Emotion(Pooled):
    """Emotion recognition (IEMOCAP in SUPERB)."""

    suffix = "emo"
    superb = Settings(updates=30000, lr=1e-4)


class Intent(Pooled):
    """Intent classification (Fluent Speech Commands in SUPERB): slots separated by tabs, each with a softmax of its own.

    An utterance counts as correct where all its slots are.
    """

    suffix = "int"

    def __init__(self, num_states: int, dim: int, classes: Sequence[str], size: int, step_ms: float):
        super().__init__(num_states, dim, classes, size, step_ms)
        slots = [name.partition(":")[0] for name in classes]
        self.slots = [
            torch.tensor([index for index, other in enumerate(slots) if other == slot]) for slot in dict.fromkeys(slots)
        ]

    @classmethod
    def read(cls, path, lengths: Sequence[int], step_seconds: float) -> List[List[str]]:
        rows = [line.split("\t") for line in parallel_lines(path, len(lengths))]
        for number, row in enumerate(rows, start=1):
            if len(row) != len(rows[0]) or not all(field.strip() for field in row):
                raise UserError(f"{path}, line {number}: must have {len(rows[0])} tab-separated slots, but is {row}")
        return [[f"{slot}:{field.strip()}" for slot, field in enumerate(row)] for row in rows]

    def loss(self, batch: Batch) -> Tensor:
        logits, targets = self.logits(batch), torch.stack(batch.targets)
        losses = []
        for slot, mine in enumerate(self.slots):
            within = torch.searchsorted(mine.to(targets.device), targets[:, slot].contiguous())
            losses.append(F.cross_entropy(logits[:, mine], within))
        return sum(losses)

    def outputs(self, batch: Batch) -> List[Tensor]:
        logits = self.logits(batch)
        best = [mine.to(logits.device)[logits[:, mine].argmax(-1)] for mine in self.slots]
        return list(torch.stack(best, dim=1))

    def measures(self, outputs: List[Tensor], targets: List[Tensor], trials=None):
        correct = [bool((output == target).all()) for output, target in zip(outputs, targets)]
        return {"accuracy": 100.0 * sum(correct) / len(correct)}
