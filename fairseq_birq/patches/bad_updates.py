"""Updates whose loss or gradient is not finite: skipped, counted, written down, and no more of them than allowed.

fairseq ends a run at the first one. Here the weights, the optimizer's moments and the running statistics stay as they
are, the update counts in the schedule, and the utterances of the batch are appended to `bad_updates.jsonl` in the run's
folder. An overflow that the loss scale of fp16 mends by itself is none of these.
"""

import json
import logging
import os
from typing import List, Sequence, Tuple

import torch
from torch import Tensor

from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)

FILE_NAME = "bad_updates.jsonl"


class BadUpdates:
    """Counts the skipped updates of one start of a run, in every process alike.

    Args:
        allowed: so many are skipped; the next one stops the run.
        folder: where `bad_updates.jsonl` is written.
        process: number of this process, for the file.
    """

    def __init__(self, allowed: int, folder: str, process: int = 0):
        self.allowed, self.path, self.process = allowed, os.path.join(folder, FILE_NAME), process
        self.count = 0
        self.skipping = False  # whether the update that is being made is a bad one
        self.batches: List[Tuple[Tensor, Tensor]] = []  # ids and loss of each batch of the update

    def watched(self, criterion):
        """`criterion` as a function that remembers its batch, and whose non-finite loss has no finite gradient.

        So all processes see the same gradient norm, not a number, wherever the gradients are summed.
        """

        def forward(model, sample):
            loss, sample_size, logging_output = criterion(model, sample)
            self.batches.append((sample["id"], loss.detach()))
            factor = torch.where(loss.isfinite(), torch.ones_like(loss), torch.full_like(loss, float("nan")))
            return loss * factor.detach(), sample_size, logging_output

        return forward

    def judge(self, gradient_norm: Tensor, num_updates: int, dataset) -> bool:
        """Whether the update must be skipped; called once for every update that is not an overflow of fp16."""
        batches, self.batches = self.batches, []
        self.skipping = not bool(torch.isfinite(gradient_norm).all())
        if self.skipping:
            self.count += 1
            self._write(batches, num_updates, dataset)
        return self.skipping

    def _write(self, batches: Sequence, num_updates: int, dataset) -> None:
        rows = [{"ids": ids.tolist(), "loss": repr(float(loss))} for ids, loss in batches]
        for row in rows:
            row["files"] = [str(dataset.audio_path(index)) for index in row["ids"]]
        entry = {"update": num_updates + 1, "process": self.process, "batches": rows}
        logger.warning(
            f"update {num_updates + 1}: the loss or the gradient is not finite, skipped ({self.count} of "
            f"{self.allowed} allowed); losses of this process' batches: {[row['loss'] for row in rows]}, ids in {self.path}"
        )
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            logger.warning(f"could not write {self.path}: {error}")

    def check(self) -> None:
        """Raises UserError when more updates were skipped than allowed."""
        if self.count > self.allowed:
            raise UserError(
                f"{self.count} updates had a loss or gradient that is not finite, and `task.max_bad_updates` allows "
                f"{self.allowed}; their utterances are in {self.path}. The weights are those of the last good update. "
                "Lower `optimization.lr`, set `optimization.clip_norm`, use bf16 instead of fp16, or leave the files out."
            )


def judged_norm(trainer, clip, clip_norm) -> Tensor:
    """The norm of the update's gradient, which `clip(clip_norm)` clips; 0 where the update is a bad one, which is skipped.

    trainer: its task counts bad updates

    Raises:
        OverflowError: the loss scale of fp16 was too large: fairseq shrinks it, and makes nothing of the update.
    """
    bad, dataset = trainer.task.run.bad_updates, trainer.task.dataset(trainer.cfg.dataset.train_subset)
    try:
        norm = clip(clip_norm)
    except OverflowError:
        bad.batches.clear()
        raise
    except FloatingPointError:  # fp16: it cannot shrink any more
        norm = torch.full((), float("nan"), device=trainer.device)
    if not bad.judge(norm, trainer.get_num_updates(), dataset):
        return norm
    trainer.zero_grad()
    _forget_factor(trainer.optimizer)
    return torch.zeros_like(norm)


def _forget_factor(optimizer) -> None:
    """fairseq's bf16 optimizer keeps the factor of a clipped gradient until the next step, and a skipped update has none.

    Not a number times any later gradient is not a number: every update after a bad one would be a bad one.
    """
    if getattr(optimizer, "scaler", None) is None and hasattr(optimizer, "_multiply_factor"):
        optimizer._multiply_factor = 1.0
