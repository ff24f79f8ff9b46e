"""fairseq's trainer in a run of ours: what it does otherwise, method by method."""

from typing import Optional

from fairseq_birq.patches import loading, saving
from fairseq_birq.patches.bad_updates import judged_norm
from fairseq_birq.patches.grouped_copies import group_copies
from fairseq_birq.patches.half_precision import float32_weights_loaded, with_float32_weights


class CarefulTrainer:
    """Goes before fairseq's `Trainer`, or one that was made of it, in the class of a run's trainer; see `make_careful`."""

    written_by: Optional[int] = None  # processes that wrote the checkpoint which is about to be loaded

    def _build_optimizer(self):
        """Once when a run begins, and again when a checkpoint was loaded."""
        super()._build_optimizer()
        group_copies(self.optimizer)

    def load_checkpoint(self, *args, **kwargs):
        """Plain values only; float32 weights as they were; the same place in the data for another number of processes."""
        with loading.plain_values_only(), float32_weights_loaded(self):
            extra_state = super().load_checkpoint(*args, **kwargs)
        if self.written_by not in (None, self.data_parallel_world_size):
            # fairseq counts the batches of each process; with another number of them the same count is another place.
            place = extra_state["train_iterator"]
            seen = place["iterations_in_epoch"] * self.written_by
            place["iterations_in_epoch"] = seen // self.data_parallel_world_size
        return extra_state

    def save_checkpoint(self, filename, extra_state):
        """Whole files; fairseq saves `crash.pt` this way too."""
        with saving.whole_files():
            return super().save_checkpoint(filename, extra_state)

    def state_dict(self):
        return with_float32_weights(self, super().state_dict())

    def clip_grad_norm(self, clip_norm):
        """Called once in every update, after its gradients are summed over processes: a bad update is skipped here."""
        return judged_norm(self, super().clip_grad_norm, clip_norm)


def make_careful(trainer) -> None:
    """Put `CarefulTrainer` before the class of `trainer`. Harmless when called again."""
    if not isinstance(trainer, CarefulTrainer):
        trainer.__class__ = type("CarefulTrainer", (CarefulTrainer, type(trainer)), {})
