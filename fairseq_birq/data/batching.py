"""What datasets of audio have in common: batches by length, in which nothing is lost without a word."""

import logging

import numpy as np
from fairseq.data import FairseqDataset

from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)


class BatchesByLength(FairseqDataset):
    """Base of datasets whose `num_tokens_vec` counts samples.

    title: what messages call the dataset
    order_seed: of the order of equally long utterances
    """

    title = ""
    order_seed = 1

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

    def audio_path(self, id_):
        """The file of an utterance that a batch names by its id."""
        raise NotImplementedError

    def filter_indices_by_size(self, indices, max_sizes):
        """Leave out what exceeds `max_sizes` samples; counted and reported here, so that fairseq does not stop."""
        if max_sizes is None:
            return indices, []
        limit = min(max_sizes) if isinstance(max_sizes, (tuple, list)) else max_sizes
        return self._drop_longer(indices, limit), []

    def batch_by_size(self, indices, max_tokens=None, max_sentences=None, required_batch_size_multiple=1):
        """As in fairseq, but utterances over `max_tokens` are reported skips and no last batch gets lost.

        fairseq's default multiple of 8 drops a last batch of another size; audio gains nothing from it.
        """
        if max_tokens is not None:
            indices = self._drop_longer(indices, max_tokens)
        return super().batch_by_size(indices, max_tokens, max_sentences, required_batch_size_multiple=1)

    def _drop_longer(self, indices, limit):
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
