"""The datasets of `fairseq_birq.data` as fairseq wants them: batches by length, in which nothing is lost without a word."""

from fairseq.data import FairseqDataset

from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.mixture import MixtureDataset


class ReportsLeftOut(FairseqDataset):
    """Utterances that do not fit are counted in one line; fairseq would stop, or lose a last batch."""

    def filter_indices_by_size(self, indices, max_sizes):
        """Leave out what exceeds `max_sizes` samples; counted and reported here, so that fairseq does not stop."""
        if max_sizes is None:
            return indices, []
        limit = min(max_sizes) if isinstance(max_sizes, (tuple, list)) else max_sizes
        return self.drop_longer(indices, limit), []

    def batch_by_size(self, indices, max_tokens=None, max_sentences=None, required_batch_size_multiple=1):
        """As in fairseq, but utterances over `max_tokens` are reported skips and no last batch gets lost.

        fairseq's default multiple of 8 drops a last batch of another size; audio gains nothing from it.
        """
        if max_tokens is not None:
            indices = self.drop_longer(indices, max_tokens)
        return super().batch_by_size(indices, max_tokens, max_sentences, required_batch_size_multiple=1)


class FairseqAudioDataset(AudioDataset, ReportsLeftOut):
    pass


class FairseqMixtureDataset(MixtureDataset, ReportsLeftOut):
    pass
