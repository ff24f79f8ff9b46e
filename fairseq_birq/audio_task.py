"""What every task of this package does alike: batches of audio, and errors that a user can read."""

from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from fairseq_birq.data.dataset import raise_user_error
from fairseq_birq.errors import reports_user_errors
from fairseq_birq.preemption import LOG_KEY


class AudioTask(FairseqTask):
    """Base of the tasks over `AudioDataset`: a bad batch stops the run with one line instead of a traceback.

    Where `resuming.py` has set them, training skips bad updates and learns that it was asked to leave.
    """

    bad_updates = None  # a `BadUpdates`
    leave_request = None  # a `LeaveRequest`

    @property
    def source_dictionary(self):
        return None

    @property
    def target_dictionary(self):
        return None

    def max_positions(self):
        return None

    @reports_user_errors
    def get_batch_iterator(self, dataset, *args, seed=1, **kwargs):
        """As in fairseq; utterances of equal length are shuffled alike in whatever epoch a run goes on."""
        dataset.order_seed = seed + 1
        return super().get_batch_iterator(dataset, *args, seed=seed, **kwargs)

    @reports_user_errors
    def train_step(self, sample, model, criterion, *args, **kwargs):
        raise_user_error(sample)
        if self.bad_updates is not None:
            criterion = self.bad_updates.watched(criterion)
        loss, sample_size, logging_output = super().train_step(sample, model, criterion, *args, **kwargs)
        if self.leave_request is not None:
            logging_output[LOG_KEY] = int(self.leave_request.asked)
        return loss, sample_size, logging_output

    def optimizer_step(self, optimizer, model, update_num):
        if self.bad_updates is None or not self.bad_updates.skipping:
            super().optimizer_step(optimizer, model, update_num)

    @reports_user_errors
    def reduce_metrics(self, logging_outputs, criterion):
        """As in fairseq; a bad update logs nothing but that it was one."""
        if not criterion.training or self.bad_updates is None:
            return super().reduce_metrics(logging_outputs, criterion)
        self.leave_request.read(logging_outputs)
        metrics.log_scalar("bad_updates", self.bad_updates.count, weight=0)
        if self.bad_updates.skipping:
            self.bad_updates.check()
            metrics.log_scalar("loss", float("nan"), weight=0, round=4)
            return None
        return super().reduce_metrics(logging_outputs, criterion)

    @reports_user_errors
    def valid_step(self, sample, *args, **kwargs):
        raise_user_error(sample)
        return super().valid_step(sample, *args, **kwargs)

    @reports_user_errors
    def inference_step(self, generator, models, sample, *args, **kwargs):
        raise_user_error(sample)
        return super().inference_step(generator, models, sample, *args, **kwargs)
