"""fairseq2's data reader over our datasets: the batches and their order are those of fairseq."""

from typing import Callable, Iterator, List, Optional

import numpy as np
import torch
from fairseq2.datasets import DataReader
from torch.utils.data import DataLoader

from fairseq_birq.data.batching import BatchesByLength
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2.batches import Batch


class BatchReader(DataReader[Batch]):
    """Batches of one process: every `gangs.dp.size`-th of an epoch's, which are shuffled by (seed, epoch) alone.

    All processes have equally many: where an epoch's do not come out even, a process gets an empty batch (B = 0) in the end,
    so that no utterance is lost and nobody waits.

    open_epoch: the dataset of an epoch, counted from 1; the same object where it does not change
    max_tokens: most samples of a padded batch; max_sentences: most utterances
    num_accumulate: batches of one update
    shuffle: false for validation, which also stays in epoch 1: utterances are cut alike every time
    """

    def __init__(
        self,
        open_epoch: Callable[[int], BatchesByLength],
        gangs,
        *,
        max_tokens: Optional[int] = None,
        max_sentences: Optional[int] = None,
        num_accumulate: int = 1,
        num_workers: int = 0,
        seed: int = 1,
        shuffle: bool = True,
    ):
        self._open_epoch, self._gangs = open_epoch, gangs
        self._limits = {"max_tokens": max_tokens, "max_sentences": max_sentences}
        self._num_accumulate, self._num_workers = num_accumulate, num_workers
        self._seed, self._shuffle = seed, shuffle
        self._dataset: Optional[BatchesByLength] = None
        self._of_dataset: List[np.ndarray] = []  # its batches, from long to short
        self._epoch, self._opened, self._read = 1, 0, 0
        self._coming: Optional[Iterator[dict]] = None

    def __iter__(self):
        return self

    def __next__(self) -> List[Batch]:
        if self._coming is None:
            self._coming = iter(self._loader())
        found = []
        for content in self._coming:
            found.append(Batch(content))
            if len(found) == self._num_accumulate:
                break
        self._read += len(found)
        if not found:
            raise StopIteration
        return found

    def reset(self) -> None:
        """Called at the end of an epoch: the next one begins."""
        self._epoch, self._read, self._coming = self._epoch + self._shuffle, 0, None

    def state_dict(self):
        return {"epoch": self._epoch, "batches_read": self._read, "batches": len(self._of_process())}

    def load_state_dict(self, state_dict) -> None:
        """Raises UserError where the epoch has another number of batches than in the run that wrote the state."""
        self._epoch, self._read, self._coming = int(state_dict["epoch"]), int(state_dict["batches_read"]), None
        ours = len(self._of_process())
        if ours != state_dict["batches"]:
            raise UserError(
                f"epoch {self._epoch} has {ours} batches for each process, but {state_dict['batches']} in the checkpoint: data, "
                "`dataset.max_tokens`, `dataset.batch_size` and the number of processes must be those of the run that goes on"
            )

    @property
    def num_accumulate(self) -> int:
        return self._num_accumulate

    def _loader(self) -> DataLoader:
        batches = self._of_process()[self._read :]
        return DataLoader(
            self._dataset,
            batch_sampler=batches,
            collate_fn=_Collater(self._dataset),
            num_workers=self._num_workers,
            generator=torch.Generator().manual_seed(self._seed),  # without it a start takes a number from the model's dropout
            pin_memory=self._gangs.device.type == "cuda",
        )

    def _of_process(self) -> List[np.ndarray]:
        """The epoch's batches of this process, with empty ones in the end where it has fewer than others."""
        batches = list(self._of_epoch())
        if self._shuffle:
            np.random.RandomState(self._seed + self._epoch).shuffle(batches)
        rank, processes = self._gangs.dp.rank, self._gangs.dp.size
        ours = batches[rank::processes]
        return ours + [np.zeros(0, dtype=np.int64)] * (-(-len(batches) // processes) - len(ours))

    def _of_epoch(self) -> List[np.ndarray]:
        if self._opened == self._epoch:
            return self._of_dataset
        before, self._dataset, self._opened = self._dataset, self._open_epoch(self._epoch), self._epoch
        self._dataset.order_seed = self._seed + 1
        self._dataset.set_epoch(self._epoch)
        if self._dataset is not before or not getattr(self._dataset, "can_reuse_epoch_itr_across_epochs", True):
            self._of_dataset = self._dataset.batches(**self._limits)
        return self._of_dataset


class _Collater:
    """A class, so that worker processes can be given it."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __call__(self, samples) -> dict:
        return self.dataset.collater(samples) if samples else self.dataset.empty_batch()
