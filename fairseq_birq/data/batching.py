"""What datasets of audio have in common: an order by length, and batches of utterances of alike length."""

import logging
from typing import List, Optional

import numpy as np
from torch.utils.data import Dataset

from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)


class BatchesByLength(Dataset):
    """Base of datasets whose `num_tokens_vec` counts samples; `doors/datasets.py` makes fairseq's batches of them.

    title: what messages call the dataset
    order_seed: of the order of equally long utterances
    """

    title = ""
    order_seed = 1

    def collater(self, samples) -> dict:
        raise NotImplementedError

    def empty_batch(self) -> dict:
        """What `collater` makes of utterances that all were bad."""
        raise NotImplementedError

    def set_epoch(self, epoch: int) -> None:
        raise NotImplementedError

    def num_tokens_vec(self, indices) -> np.ndarray:
        """Samples of each of `indices`."""
        raise NotImplementedError

    def num_tokens(self, index):
        return int(self.num_tokens_vec(np.array([index]))[0])

    def size(self, index):
        return self.num_tokens(index)

    def long_to_short(self, indices):
        """Equally long ones are shuffled by `order_seed`.

        Not by numpy's state: fairseq seeds it with the epoch in which a run was started, so that a resumed run would
        have other batches.
        """
        shuffled = np.random.RandomState(self.order_seed).permutation(len(indices))
        return indices[np.lexsort([shuffled, self.num_tokens_vec(indices)])[::-1]]

    def ordered_indices(self) -> np.ndarray:
        """What an epoch has, from long to short."""
        raise NotImplementedError

    def drop_longer(self, indices, limit):
        """Without utterances over `limit` samples, which are counted in one line.

        Raises:
            UserError: nothing is left.
        """
        sizes = self.num_tokens_vec(indices)
        too_long = sizes > limit
        if not too_long.any():
            return indices
        counted = f"{int(too_long.sum())} of {len(indices)} utterances"
        advice = f"longer than max_tokens={limit} samples; the longest has {sizes.max()}. Raise dataset.max_tokens to keep them"
        if too_long.all():
            raise UserError(f"{self.title}: {counted} are {advice}")
        logger.warning(f"{self.title}: left out {counted}, {advice}")
        return indices[~too_long]

    def batches(self, max_tokens: Optional[int] = None, max_sentences: Optional[int] = None) -> List[np.ndarray]:
        """The epoch's batches, from long to short: what fairseq's `batch_by_size` gives, without fairseq.

        max_tokens: most samples of a padded batch; max_sentences: most utterances
        """
        indices = self.ordered_indices()
        if max_tokens is not None:
            indices = self.drop_longer(indices, max_tokens)
        sizes, first, found = self.num_tokens_vec(indices), 0, []
        while first < len(indices):
            fit = len(indices) if max_tokens is None else max(max_tokens // max(int(sizes[first]), 1), 1)
            found.append(indices[first : first + min(fit, max_sentences or fit)])
            first += len(found[-1])
        return found

    def audio_path(self, id_):
        """The file of an utterance that a batch names by its id."""
        raise NotImplementedError
