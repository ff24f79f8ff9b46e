"""What datasets of audio have in common: an order by length."""

import numpy as np
from torch.utils.data import Dataset


class BatchesByLength(Dataset):
    """Base of datasets whose `num_tokens_vec` counts samples; `doors/datasets.py` makes fairseq's batches of them.

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
