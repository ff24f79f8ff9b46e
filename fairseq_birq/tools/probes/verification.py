"""Are two utterances by one speaker? Cosine of embeddings, equal error rate."""

from typing import Dict, List, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.data.text import text_lines
from fairseq_birq.errors import UserError
from fairseq_birq.tools.probes.base import Batch, Probe, Settings, mean_over_time

MAX_TRIALS = 200000
MARGIN, SCALE = 0.4, 30.0  # of the AM-softmax; s3prl's


def equal_error_rate(scores: Tensor, same: Tensor) -> float:
    """Per cent at the threshold where misses and false alarms are equally frequent, between points by interpolation.

    scores: (P,) float, high where a pair looks alike; same: (P,) bool, with True and False among them.
    """
    scores, order = scores.double().sort(descending=True)
    same = same[order]
    ends = torch.cat([scores[1:] != scores[:-1], torch.ones(1, dtype=torch.bool)])  # equal scores fall together
    zero = torch.zeros(1, dtype=torch.float64)
    misses = torch.cat([zero + 1, 1 - same.cumsum(0).double()[ends] / same.sum()])
    alarms = torch.cat([zero, (~same).cumsum(0).double()[ends] / (~same).sum()])
    after = int((alarms >= misses).nonzero()[0])  # the last point has alarms 1 and misses 0
    gap_before, gap_after = misses[after - 1] - alarms[after - 1], alarms[after] - misses[after]
    share = gap_before / (gap_before + gap_after)
    return 100.0 * float(alarms[after - 1] + share * (alarms[after] - alarms[after - 1]))


def all_pairs(num: int, limit: int = MAX_TRIALS) -> np.ndarray:
    """(P, 2) int64 rows a < b: every pair, or `limit` of them drawn with a fixed seed."""
    if num * (num - 1) // 2 <= limit:
        return np.stack(np.triu_indices(num, 1), axis=1)
    pairs = np.random.default_rng(0).integers(num, size=(2 * limit, 2))
    return pairs[pairs[:, 0] < pairs[:, 1]][:limit]


class Verification(Probe):
    """Layer sum, linear layer to `size`, mean over time; trained to tell training speakers apart with AM-softmax.

    SUPERB's head is an x-vector network; this one is linear and says what a cosine finds in the layers themselves.
    Pairs: `<split>.trials` with lines `1 path path` (same) or `0 path path`, as VoxCeleb's, else all pairs of the split.
    """

    suffix = "spk"
    measure = "eer"
    higher_is_better = False
    settings = Settings(updates=2000)
    superb = Settings(updates=200000, lr=1e-4)

    def __init__(self, num_states: int, dim: int, classes: Sequence[str], size: int, step_ms: float):
        super().__init__(num_states, dim, classes, size, step_ms)
        self.projector = nn.Linear(dim, size)
        self.centres = nn.Parameter(torch.randn(len(classes), size))

    def embeddings(self, batch: Batch) -> Tensor:
        """(B, size) float of norm 1."""
        return F.normalize(mean_over_time(self.projector(self.layer_sum(batch.states)), batch.padding_mask()), dim=-1)

    def loss(self, batch: Batch) -> Tensor:
        targets = torch.cat(batch.targets)
        cosines = self.embeddings(batch) @ F.normalize(self.centres, dim=-1).t()
        return F.cross_entropy(SCALE * (cosines - MARGIN * F.one_hot(targets, len(self.classes))), targets)

    def outputs(self, batch: Batch) -> List[Tensor]:
        return list(self.embeddings(batch))

    def measures(self, outputs: List[Tensor], targets: List[Tensor], trials: Optional[np.ndarray] = None) -> Dict[str, float]:
        """trials: (P, 3) int64 of row, row and 1 for the same speaker; None: all pairs, by their speakers.

        Raises:
            UserError: all pairs are of one kind.
        """
        embeddings, speakers = torch.stack(outputs).cpu(), torch.cat(targets).cpu()
        pairs = torch.from_numpy(all_pairs(len(embeddings)) if trials is None else trials[:, :2])
        same = speakers[pairs[:, 0]] == speakers[pairs[:, 1]] if trials is None else torch.from_numpy(trials[:, 2] == 1)
        if same.all() or not same.any():
            raise UserError("speaker verification needs pairs of one speaker and pairs of two in dev and in test")
        scores = torch.cat([(embeddings[a] * embeddings[b]).sum(-1) for a, b in (part.t() for part in pairs.split(65536))])
        return {"eer": equal_error_rate(scores, same)}

    @classmethod
    def chance(cls, train_targets: List[Tensor], targets: List[Tensor]) -> float:
        return 50.0


def read_trials(path, names: Dict[str, int]) -> Optional[np.ndarray]:
    """(P, 3) int64 of row, row, same; None where there is no such file. names: path in the manifest -> row.

    Raises:
        UserError: a line is no trial, or names a path that the manifest lacks.
    """
    if not path.is_file():
        return None
    rows = []
    for number, line in text_lines(path, "list of trials"):
        fields = line.split()
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise UserError(f"{path}, line {number}: must be `1 path path` or `0 path path`, but is {line!r}")
        unknown = [name for name in fields[1:] if name not in names]
        if unknown:
            raise UserError(f"{path}, line {number}: {unknown[0]} is not in the manifest beside it")
        rows.append((names[fields[1]], names[fields[2]], int(fields[0])))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)
