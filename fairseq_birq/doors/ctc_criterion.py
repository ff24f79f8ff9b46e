"""Door: criterion `birq_ctc`. CTC loss, and greedy WER and CER in validation: `training/ctc_step.py` makes both."""

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics

from fairseq_birq.config import BirqCtcCriterionConfig
from fairseq_birq.doors import disturbance_logging
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.training.ctc_step import CtcStep, error_rates

_COUNTS = ("word_errors", "num_words", "letter_errors", "num_letters")


@register_criterion("birq_ctc", dataclass=as_fairseq(BirqCtcCriterionConfig))
class BirqCtcCriterion(FairseqCriterion):
    """`CtcStep` as fairseq wants it."""

    def __init__(self, task, sentence_avg):
        super().__init__(task)
        self.step = CtcStep(task, sentence_avg)

    def forward(self, model, sample, reduce=True):
        """Return (summed loss, letters or utterances, logging output)."""
        loss, sums = self.step(model, sample)
        return loss, sums["sample_size"], sums

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Log sums over processes; `wer` and `cer` are of all batches of an interval together."""
        sums = {key: sum(output.get(key, 0) for output in logging_outputs) for key in set().union(*logging_outputs)}
        size = max(float(sums["sample_size"]), 1.0)
        metrics.log_scalar("loss", float(sums["loss"]) / size, size, round=4)
        metrics.log_scalar("too_long_targets", float(sums["too_long_targets"]), 1, round=2)
        metrics.log_scalar_sum("bad_audio", int(sums["bad_audio"]))
        disturbance_logging.log(sums)
        if "num_words" not in sums:
            return
        for name in _COUNTS:
            metrics.log_scalar(f"_{name}", float(sums[name]))
        for rate in ("wer", "cer"):
            metrics.log_derived(rate, lambda meters, rate=rate: error_rates({k: meters[f"_{k}"].sum for k in _COUNTS})[rate])

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
