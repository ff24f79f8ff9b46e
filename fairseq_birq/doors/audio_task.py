"""What every task of this package does alike: batches of audio, and errors that a user can read."""

import logging

import torch
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from fairseq_birq.checkpoint import MODELS
from fairseq_birq.data.dataset import raise_user_error
from fairseq_birq.distributed import num_processes
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.patches.run_state import RunState

logger = logging.getLogger(__name__)


class AudioTask(FairseqTask):
    """Base of the tasks over `AudioDataset`: a bad batch stops the run with one line instead of a traceback.

    `run` is what the task knows of its training run; `patches` fills it when training begins, and tells our tasks by it.
    """

    model_name = ""  # the one that this task trains and reads
    other_model_hint = ""  # what to do with this package's other model

    def __init__(self, cfg, **kwargs):
        super().__init__(cfg, **kwargs)
        self.run = RunState()
        self.sample_rate = cfg.sample_rate

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
    def build_model(self, cfg, from_checkpoint=False):
        """As in fairseq, for this task's model: some of fairseq's own `eval` settings, which a checkpoint brings along.

        Raises:
            UserError: `cfg` is of another model, or of one for another sample rate than `task.sample_rate`. The rate of a
                checkpoint that is only used goes before the task's.
        """
        self.check_model(cfg, from_checkpoint)
        if from_checkpoint and getattr(cfg, "compile_layers", False):
            cfg.compile_layers = False  # decoding is over before it pays, and may be on a machine without a compiler
        model = super().build_model(cfg, from_checkpoint)
        if not from_checkpoint and model.disturber is not None:
            model.disturber.open()
        wanted = model.speech_encoder.frontend.sample_rate
        if from_checkpoint:
            self.sample_rate = wanted
        elif self.sample_rate != wanted:
            raise UserError(f"`task.sample_rate` is {self.sample_rate}, but the model's frontend wants {wanted}; set it to that")
        return model

    @reports_user_errors
    def check_model(self, cfg, from_checkpoint=False):
        name = getattr(cfg, "_name", None) or getattr(cfg, "arch", None)
        if name == self.model_name:
            return
        whose = "the checkpoint" if from_checkpoint else "`model._name`"
        hint = self.other_model_hint if name in MODELS else ""
        raise UserError(f"{whose} is of model {name!r}, but this task wants {self.model_name}{hint}")

    def check_trainer(self, trainer):
        """Called once, when fairseq has built everything. Raises UserError for parts that do not fit together.

        fairseq's moving average of the weights (`ema.store_ema`) averages all that a model holds. What is not trained is copied:
        counters, and constants such as codebooks, which an average changes in their last digit, so that codes would differ.
        """
        if trainer.cfg.ema.store_ema:
            model = trainer.get_model()
            state, buffers = model.state_dict(), {key for key, _ in model.named_buffers(remove_duplicate=False)}
            fixed = {key for key, value in model.named_parameters() if key.startswith("targets.") and not value.requires_grad}
            counters = {key for key, value in state.items() if torch.is_tensor(value) and not value.is_floating_point()}
            trainer.ema.skip_keys |= (counters | buffers | fixed) & state.keys()

    def train_step(self, sample, model, criterion, *args, **kwargs):
        if self.run.is_training:
            criterion = self.run.bad_updates.watched(criterion)
        loss, sample_size, logging_output = self._step(super().train_step, sample, model, criterion, *args, **kwargs)
        if self.run.is_training:
            self.run.leave_request.add_to(logging_output)
        return loss, sample_size, logging_output

    def valid_step(self, sample, *args, **kwargs):
        return self._step(super().valid_step, sample, *args, **kwargs)

    @reports_user_errors
    def _step(self, step, sample, *args, **kwargs):
        """One process raises a batch's error; one of several says it and takes the step, after which all of them stop.

        The others would wait for a process that is gone. See `reduce_metrics`.
        """
        if num_processes() == 1:
            raise_user_error(sample)
            return step(sample, *args, **kwargs)
        error = sample.get("user_error")
        if error:
            logger.error(error)
        loss, sample_size, logging_output = step(sample, *args, **kwargs)
        return loss, sample_size, {**logging_output, "user_errors": int(bool(error))}

    def optimizer_step(self, optimizer, model, update_num):
        if not self.run.skips_update:
            super().optimizer_step(optimizer, model, update_num)

    @reports_user_errors
    def reduce_metrics(self, logging_outputs, criterion):
        """As in fairseq, `logging_outputs` being of all processes; a bad update logs nothing but that it was one."""
        if sum(output.get("user_errors", 0) for output in logging_outputs):
            logger.error("stopped, with all other processes: one of them met the error that its log names")
            raise SystemExit(2)
        if not (criterion.training and self.run.is_training):
            return super().reduce_metrics(logging_outputs, criterion)
        self.run.leave_request.read(logging_outputs)
        metrics.log_scalar("bad_updates", self.run.bad_updates.count, weight=0)
        if self.run.skips_update:
            self.run.bad_updates.check()
            metrics.log_scalar("loss", float("nan"), weight=0, round=4)
            return None
        return super().reduce_metrics(logging_outputs, criterion)

    @reports_user_errors
    def inference_step(self, generator, models, sample, *args, **kwargs):
        raise_user_error(sample)
        return super().inference_step(generator, models, sample, *args, **kwargs)
