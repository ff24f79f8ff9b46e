"""Train one probe: dev chooses the stopping point, test is reported. Same seed, same numbers."""

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Dict, List, Optional

import numpy as np
import torch
from torch import Tensor

from fairseq_birq.progress import progress
from fairseq_birq.tools.probes.base import Batch, Probe, Settings
from fairseq_birq.tools.probes.states import StateStore

EVALUATIONS = 20  # on dev, evenly spread over the updates


@dataclass
class Split:
    states: StateStore
    targets: List[Tensor]  # per utterance (L,) int64, see `Batch`
    trials: Optional[np.ndarray] = None  # (P, 3), of speaker verification

    def batch(self, rows, device) -> Batch:
        states, lengths = self.states.batch(rows)
        return Batch(states.to(device), lengths.to(device), [self.targets[row].to(device) for row in rows])


@dataclass
class Fit:
    probe: Probe  # at its stopping point
    stopped_at: int  # update
    dev: Dict[str, float]
    curve: Dict[int, float]  # update -> the measure on dev


@contextmanager
def seeded(seed: int):
    """torch's random numbers from `seed` inside, and as if nothing had been drawn afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def fit(probe: Probe, train: Split, dev: Split, settings: Settings, seed: int = 1, device: str = "cpu", title: str = "") -> Fit:
    """Train for `settings.updates`; of equally good points on dev the last one stays. Call it within `seeded`."""
    probe.to(device).train()
    optimizer = torch.optim.Adam(probe.parameters(), lr=settings.lr)
    batches, curve, best = _endless_batches(len(train.states), settings.batch_size, seed), {}, None
    step = max(1, settings.updates // EVALUATIONS)
    bar = progress(range(1, settings.updates + 1), title=title, unit="updates")
    for update in bar:
        loss = probe.loss(train.batch(next(batches), device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        if update % step == 0 or update == settings.updates:
            found = evaluate(probe, dev, device=device)
            curve[update] = found[probe.measure]
            bar.set_postfix({probe.measure: f"{curve[update]:.1f}"})
            if best is None or _as_good(probe, found, best[1]):
                best = update, found, copy.deepcopy(probe.state_dict())
    probe.load_state_dict(best[2])
    return Fit(probe.eval(), best[0], best[1], curve)


@torch.no_grad()
def evaluate(probe: Probe, split: Split, batch_size: int = 16, device: str = "cpu") -> Dict[str, float]:
    """The probe's measures over a whole split, in eval mode; its mode is restored."""
    was_training, outputs = probe.training, []
    probe.eval()
    for start in range(0, len(split.states), batch_size):
        rows = list(range(start, min(start + batch_size, len(split.states))))
        outputs += [output.cpu() for output in probe.outputs(split.batch(rows, device))]
    probe.train(was_training)
    return probe.measures(outputs, split.targets, split.trials)


def _as_good(probe, found, best):
    difference = found[probe.measure] - best[probe.measure]
    return difference >= 0 if probe.higher_is_better else difference <= 0


def _endless_batches(num_rows, batch_size, seed):
    """Rows of one batch after another; every pass is a new permutation."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(num_rows).tolist()
        for start in range(0, num_rows, batch_size):
            yield order[start : start + batch_size]
