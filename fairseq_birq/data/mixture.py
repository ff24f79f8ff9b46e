"""Several corpora as one dataset, in shares that grow with their hours to a power.

Hours are what training sees of a corpus: after `max_samples` and `min_samples`. With H hours in all, corpus c with h_c hours
gets the share p_c = h_c^alpha / sum of h^alpha of an epoch's H hours: alpha 1 is every utterance once, 0 is equal shares
(Conneau et al. 2020, arXiv 2006.13979, section 2, for languages).
"""

import logging
import zlib
from typing import Dict, Optional

import numpy as np

from fairseq_birq.data.batching import BatchesByLength
from fairseq_birq.data.dataset import IDS_PER_PART, AudioDataset
from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)

MAX_CORPORA = 1024
IDS_PER_COPY = IDS_PER_PART * MAX_CORPORA
MAX_COPIES = 2**63 // IDS_PER_COPY


class MixtureDataset(BatchesByLength):
    """Utterances of several corpora; an index is row + `IDS_PER_PART` * corpus + `IDS_PER_COPY` * copy, and is the id too.

    In an epoch, corpus c gives n_c = p_c H / (its mean hours) utterances: the next n_c of an endless row of shuffles of it.
    So every utterance comes once before any comes again, whatever the epochs' borders. What epoch e has depends on
    (seed, e) alone, and is the same in every process. One that comes twice in an epoch has another copy number, so that it
    is cut and masked in another way.

    Args:
        corpora: by their names, which decide what is taken of them; their order does not.
        alpha: None takes every utterance once, for validation.

    Raises:
        UserError: alpha is negative, there are too many corpora, or a corpus would be repeated too often.
    """

    title = "the mixture"

    def __init__(self, corpora: Dict[str, AudioDataset], alpha: Optional[float] = None, seed: int = 1):
        super().__init__()
        self.names, self.corpora = list(corpora), list(corpora.values())
        self.seed, self.epoch, self.alpha = seed, 1, alpha
        if len(self.corpora) > MAX_CORPORA:
            raise UserError(f"`task.corpora` has {len(self.corpora)} corpora, but must have at most {MAX_CORPORA}")
        self.utterances_per_epoch = None if alpha is None else self._plan()

    def __len__(self):
        return sum(map(len, self.corpora))

    def __getitem__(self, index):
        corpus, row = divmod(int(index) % IDS_PER_COPY, IDS_PER_PART)
        return {**self.corpora[corpus].item(row, int(index)), "corpus": corpus}

    def audio_path(self, id_):
        corpus, row = divmod(int(id_) % IDS_PER_COPY, IDS_PER_PART)
        return self.corpora[corpus].manifest.audio_path(row)

    def collater(self, samples):
        """As `AudioDataset.collater`; each corpus has its own budget of bad audio."""
        if not samples:
            return {}
        batch = self.corpora[0].assemble(samples)
        errors = [
            corpus.note_bad([sample for sample in samples if sample["corpus"] == number])
            for number, corpus in enumerate(self.corpora)
        ]
        return {**batch, "user_error": next(filter(None, errors), None)}

    def empty_batch(self):
        return self.corpora[0].empty_batch()

    def num_tokens_vec(self, indices):
        ids = np.asarray(indices)
        numbers, sizes = ids % IDS_PER_COPY // IDS_PER_PART, np.zeros(len(ids), dtype=np.int64)
        for number, corpus in enumerate(self.corpora):
            of_corpus = numbers == number
            sizes[of_corpus] = corpus.num_samples_of(ids[of_corpus] % IDS_PER_PART, ids[of_corpus])
        return sizes

    def ordered_indices(self):
        """What the epoch has, from long to short."""
        return self.long_to_short(np.concatenate([self._of_epoch(number) for number in range(len(self.corpora))]))

    @property
    def can_reuse_epoch_itr_across_epochs(self):
        return self.utterances_per_epoch is None and all(corpus.speeds is None for corpus in self.corpora)

    def set_epoch(self, epoch):
        self.epoch = epoch
        for corpus in self.corpora:
            corpus.set_epoch(epoch)

    def _of_epoch(self, number):
        """Indices of a corpus' utterances in this epoch."""
        usable = self.corpora[number].usable() + number * IDS_PER_PART
        if self.utterances_per_epoch is None:
            return usable
        wanted, total = self.utterances_per_epoch[number], len(usable)
        begin, end = (self.epoch - 1) * wanted, self.epoch * wanted
        parts = []
        for copy, shuffle in enumerate(range(begin // total, -(-end // total))):
            order = self._shuffled(number, usable, shuffle)
            parts.append(order[max(begin - shuffle * total, 0) : end - shuffle * total] + copy * IDS_PER_COPY)
        return np.concatenate(parts)

    def _shuffled(self, number, usable, shuffle):
        return np.random.default_rng([self.seed, zlib.crc32(self.names[number].encode()), shuffle]).permutation(usable)

    def _plan(self):
        """Utterances of each corpus in an epoch; logs hours, weights and shares."""
        if not self.alpha >= 0:
            raise UserError(f"`task.sampling_alpha` must be >= 0, but is {self.alpha}")
        counts = np.array([len(corpus.usable()) for corpus in self.corpora])
        hours = np.array([corpus.num_tokens_vec(corpus.usable()).sum() / corpus.sample_rate / 3600 for corpus in self.corpora])
        weights = hours**self.alpha
        shares = weights / weights.sum()
        wanted = np.maximum(np.round(shares * hours.sum() * counts / hours), 1).astype(np.int64)
        for name, *numbers in zip(self.names, hours, weights, shares, wanted, counts):
            hour, weight, share, take, count = numbers
            logger.info(
                f"corpus {name}: {hour:.2f} h, weight {weight:.3g} (hours^{self.alpha:g}), {100 * share:.1f} % of the audio; "
                f"{take} utterances an epoch of the {count} it has"
            )
            if take > (MAX_COPIES - 1) * count:
                raise UserError(f"corpus {name} would come {take // count} times in an epoch; raise `task.sampling_alpha`")
        return wanted.tolist()
