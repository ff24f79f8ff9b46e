"""Door: criterion `birq_ctc`. CTC loss, and greedy WER and CER in validation."""

import logging

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from torch import Tensor
from torch.nn.functional import ctc_loss

from fairseq_birq.config import BirqCtcCriterionConfig
from fairseq_birq.decoding.base import frames_needed
from fairseq_birq.decoding.errors import ErrorCounts, count_errors, rate
from fairseq_birq.doors import disturbance_logging
from fairseq_birq.doors.configs import as_fairseq

logger = logging.getLogger(__name__)


@register_criterion("birq_ctc", dataclass=as_fairseq(BirqCtcCriterionConfig))
class BirqCtcCriterion(FairseqCriterion):
    """CTC (Graves et al. 2006) in float32, summed over utterances, in nats.

    Utterances with more letters than frames have no alignment: they give no gradient, are counted in
    `too_long_targets` and named once in a warning.
    """

    def __init__(self, task, sentence_avg):
        super().__init__(task)
        self.sentence_avg = sentence_avg
        self.warned = False

    def forward(self, model, sample, reduce=True):
        """Return (summed loss, letters or utterances, logging output)."""
        output = model(**sample["net_input"])
        log_probs = model.get_normalized_probs(output, log_probs=True)
        frames = (~output.padding_mask).sum(1)
        loss = self._ctc_loss(log_probs, frames, sample)
        num_letters, num_utterances = int(sample["target_lengths"].sum()), sample["id"].numel()
        sample_size = num_utterances if self.sentence_avg else num_letters
        logging_output = {
            "loss": loss.detach(),
            "sample_size": sample_size,
            "ntokens": num_letters,
            "nsentences": num_utterances,
            "too_long_targets": self._count_too_long(sample, frames),
            "bad_audio": sample["bad_audio"],
        }
        logging_output.update(disturbance_logging.pack(output.realised))
        if not model.training:
            logging_output.update(vars(self._count_errors(log_probs, frames, sample)))
        return loss, sample_size, logging_output

    def _ctc_loss(self, log_probs, frames, sample) -> Tensor:
        """Zero, but with a graph, for a batch without utterances or frames."""
        if log_probs.numel() == 0:
            return log_probs.sum()
        with torch.backends.cudnn.flags(enabled=False):
            return ctc_loss(
                log_probs.transpose(0, 1),
                sample["target"],
                frames,
                sample["target_lengths"],
                blank=self.task.blank,
                reduction="sum",
                zero_infinity=True,
            )

    def _count_too_long(self, sample, frames) -> int:
        too_long = frames_needed(sample["target"], sample["target_lengths"]) > frames
        count = int(too_long.sum())
        if count and not self.warned:
            self.warned = True
            logger.warning(
                f"{count} of {too_long.numel()} utterances of a batch have more letters than CTC frames and give no "
                f"gradient (rows {sample['id'][too_long].tolist()[:10]} of the manifest, counted from 0). "
                "`model.upsample=2` doubles the frames; `too_long_targets` in the log counts them from here on."
            )
        return count

    def _count_errors(self, log_probs, frames, sample) -> ErrorCounts:
        hypotheses = self.task.greedy_decoder(log_probs, frames)
        return count_errors(
            [self.task.text(row[:length]) for row, length in zip(sample["target"], sample["target_lengths"])],
            [self.task.text(nbest[0].tokens) for nbest in hypotheses],
        )

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
        for name in ("word_errors", "num_words", "letter_errors", "num_letters"):
            metrics.log_scalar(f"_{name}", float(sums[name]))
        metrics.log_derived("wer", lambda meters: rate(meters["_word_errors"].sum, meters["_num_words"].sum))
        metrics.log_derived("cer", lambda meters: rate(meters["_letter_errors"].sum, meters["_num_letters"].sum))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
