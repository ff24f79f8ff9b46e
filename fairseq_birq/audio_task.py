"""What every task of this package does alike: batches of audio, and errors that a user can read."""

from fairseq.tasks import FairseqTask

from fairseq_birq.data.dataset import raise_user_error
from fairseq_birq.errors import reports_user_errors


class AudioTask(FairseqTask):
    """Base of the tasks over `AudioDataset`: a bad batch stops the run with one line instead of a traceback."""

    @property
    def source_dictionary(self):
        return None

    @property
    def target_dictionary(self):
        return None

    def max_positions(self):
        return None

    @reports_user_errors
    def get_batch_iterator(self, *args, **kwargs):
        return super().get_batch_iterator(*args, **kwargs)

    @reports_user_errors
    def train_step(self, sample, *args, **kwargs):
        raise_user_error(sample)
        return super().train_step(sample, *args, **kwargs)

    @reports_user_errors
    def valid_step(self, sample, *args, **kwargs):
        raise_user_error(sample)
        return super().valid_step(sample, *args, **kwargs)

    @reports_user_errors
    def inference_step(self, generator, models, sample, *args, **kwargs):
        raise_user_error(sample)
        return super().inference_step(generator, models, sample, *args, **kwargs)
