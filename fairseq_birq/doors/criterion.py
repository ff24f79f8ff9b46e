"""Door: criterion `birq`. Weighs the target sources' losses, logs the health of their codes."""

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics

from fairseq_birq.config import BirqCriterionConfig
from fairseq_birq.doors import code_logging, disturbance_logging
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.errors import reports_user_errors
from fairseq_birq.objective.code_health import Churn, CollapseAlarm
from fairseq_birq.training import step
from fairseq_birq.training.code_curves import sums_of_batch, unpack

_DIGITS = {"loss": 4, "mask_coverage": 3, "padding_share": 3, "stage": 2}


@register_criterion("birq", dataclass=as_fairseq(BirqCriterionConfig))
class BirqCriterion(FairseqCriterion):
    """`w1 F + w2 G` of `objective/losses.py`, per masked frame, in nats; `weights` are w1 and w2 by the sources' names."""

    def __init__(
        self,
        task,
        weights,
        warmup_updates,
        start_updates,
        log_grad_every,
        collapse_min_perplexity,
        collapse_patience,
        collapse_action,
    ):
        super().__init__(task)
        self.weights = step.SourceWeights(weights, warmup_updates, start_updates)
        self.log_grad_every = log_grad_every
        self.churn = Churn()
        self.collapse_alarm = CollapseAlarm(collapse_min_perplexity, collapse_patience, stop=str(collapse_action) == "stop")

    def weights_at(self, sources, update: int) -> dict:
        """The weight of every source. Raises UserError where a setting names a source that the model has not."""
        return self.weights.at(sources, update)

    @reports_user_errors
    def forward(self, model, sample, reduce=True):
        """Return (loss summed over masked frames, M, logging output)."""
        weights = self.weights_at(list(model.targets), model.num_updates)
        output = model(**step.inputs_of(sample), weights=weights)
        sums = sums_of_batch(output.terms, output.columns)
        if not self.training:
            sums.update(step.churn_of(self.churn, sample, output))
        elif self.log_grad_every and model.num_updates % self.log_grad_every == 0:
            sums["gradient_norm"] = step.gradient_norms(model, sample, weights, list(output.terms), output.num_masked)
        return output.loss, output.num_masked, {**step.numbers_of(output, sample), **step.packed(output, sums)}

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Log sums over processes; called once an update and once a validation batch."""
        sums = code_logging.add_up(logging_outputs)
        for name, value, weight in step.curves(sums):
            metrics.log_scalar(name, value, weight, round=_DIGITS[name])
        metrics.log_scalar_sum("bad_audio", int(sums["bad_audio"]))
        metrics.log_speed("audio_seconds_per_second", float(sums["audio_seconds"]), round=1)
        disturbance_logging.log(sums)
        frames = max(float(sums["sample_size"]), 1.0)
        code_logging.log_curves(unpack(sums), frames, float(sums["num_outputs"]))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True

    def watch_collapse(self, logging_outputs) -> None:
        """Warn or stop when a source's codes stay few; called by the task with outputs of all processes.

        Raises:
            UserError: `collapse_action` is "stop" and the alarm rings.
        """
        if not self.collapse_alarm.is_on:
            return
        sums = unpack(code_logging.add_up(logging_outputs))
        self.collapse_alarm.watch(sums.get("histogram", {}))
