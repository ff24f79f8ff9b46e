"""Door: criterion `birq`. Weighs the target sources' losses, logs the health of their codes."""

import logging

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import meters
from fairseq.logging import metrics as fairseq_metrics

from fairseq_birq.config import BirqCriterionConfig
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.metrics import perplexity, top_share, used_share

logger = logging.getLogger(__name__)


class CodeHistogramMeter(meters.Meter):
    """Sums code histograms, so that perplexity is that of a whole interval and not of single batches."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.histogram = None

    def update(self, histogram):
        histogram = histogram.detach().cpu()
        self.histogram = histogram if self.histogram is None else self.histogram + histogram

    def state_dict(self):
        return {"histogram": self.histogram}

    def load_state_dict(self, state_dict):
        self.histogram = state_dict["histogram"]

    @property
    def smoothed_value(self) -> float:
        return float("nan") if self.histogram is None else float(perplexity(self.histogram).mean())


meters.CodeHistogramMeter = CodeHistogramMeter  # fairseq restores meters from checkpoints by the name in that module


@register_criterion("birq", dataclass=BirqCriterionConfig)
class BirqCriterion(FairseqCriterion):
    """Loss = sum over sources of weight x cross-entropy at masked frames, per masked frame, in nats."""

    def __init__(self, task, weights, collapse_min_perplexity, collapse_patience, collapse_action):
        super().__init__(task)
        self.weights = dict(weights)
        self.collapse_min_perplexity = collapse_min_perplexity
        self.collapse_patience = collapse_patience
        self.collapse_action = str(collapse_action)
        self.updates_below = {}

    @reports_user_errors
    def forward(self, model, sample, reduce=True):
        """Return (loss summed over masked frames, M, logging output)."""
        output = model(**sample["net_input"])
        unknown = sorted(set(self.weights) - set(output.totals))
        if unknown:
            raise UserError(f"`criterion.weights` names {unknown}, but the target sources are {sorted(output.totals)}")
        loss = sum(self.weights.get(name, 1.0) * total for name, total in output.totals.items())
        logging_output = {
            "loss": loss.detach(),
            "sample_size": output.num_masked,
            "ntokens": output.num_masked,
            "nsentences": sample["id"].numel(),
            "num_frames": output.num_frames,
            "num_padded": output.num_padded,
            "audio_seconds": output.audio_seconds,
            "bad_audio": sample["bad_audio"],
        }
        for name, term in output.terms.items():
            logging_output[f"loss.{name}"] = term.loss_sum
            logging_output[f"correct.{name}"] = term.correct
            logging_output[f"histogram.{name}"] = term.histogram.double()
        return loss, output.num_masked, logging_output

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Log sums over processes; called once an update and once a validation batch."""
        sums = _sum_outputs(logging_outputs)
        frames = max(float(sums["sample_size"]), 1.0)
        log = fairseq_metrics.log_scalar
        log("loss", float(sums["loss"]) / frames, frames, round=4)
        valid = max(float(sums["num_frames"]), 1.0)
        log("mask_coverage", float(sums["sample_size"]) / valid, valid, round=3)
        log("padding_share", float(sums["num_padded"]) / (valid + float(sums["num_padded"])), valid, round=3)
        log("bad_audio", float(sums["bad_audio"]), 1, round=1)
        fairseq_metrics.log_speed("audio_seconds_per_second", float(sums["audio_seconds"]), round=1)
        for key in sums:
            kind, _, name = key.partition(".")
            if kind == "histogram":
                _log_source(name, sums, frames)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True

    def watch_collapse(self, logging_outputs) -> None:
        """Warn or stop when a source's codes stay few; called by the task with outputs of all processes.

        Raises:
            UserError: `collapse_action` is "stop" and the alarm rings.
        """
        if self.collapse_min_perplexity <= 0:
            return
        for key, histogram in _sum_outputs(logging_outputs).items():
            if not key.startswith("histogram.") or histogram.sum() == 0:
                continue
            name, value = key.partition(".")[2], float(perplexity(histogram).mean())
            below = self.updates_below.get(name, 0) + 1 if value < self.collapse_min_perplexity else 0
            self.updates_below[name] = below
            if below >= self.collapse_patience:
                self.updates_below[name] = 0
                self._alarm(name, value)

    def _alarm(self, name, value):
        message = (
            f"the codes of target source `{name}` have collapsed: perplexity {value:.1f} is below "
            f"{self.collapse_min_perplexity} for {self.collapse_patience} updates. Look at `quantizer_norm`, the "
            "quantizer's seed and the features before you train on."
        )
        if self.collapse_action == "stop":
            raise UserError(message)
        logger.warning(message)


def _sum_outputs(logging_outputs) -> dict:
    keys = logging_outputs[0].keys() if logging_outputs else ()
    return {key: sum(output[key] for output in logging_outputs) for key in keys}


def _log_source(name, sums, frames):
    log = fairseq_metrics.log_scalar
    losses = torch.as_tensor(sums[f"loss.{name}"]).double() / frames
    log(f"loss_{name}", float(losses.mean()), frames, round=4)
    if losses.numel() > 1:
        for n, loss in enumerate(losses.tolist()):
            log(f"loss_{name}_{n}", loss, frames, round=4)
    log(f"accuracy_{name}", float(torch.as_tensor(sums[f"correct.{name}"]).double().mean()) / frames, frames, round=4)
    histogram_key = f"_histogram_{name}"
    fairseq_metrics.log_custom(CodeHistogramMeter, histogram_key, sums[f"histogram.{name}"])
    for label, measure in (("perplexity", perplexity), ("top_share", top_share), ("used_share", used_share)):
        fairseq_metrics.log_derived(f"{label}_{name}", _derived(measure, histogram_key))


def _derived(measure, histogram_key):
    return lambda meters_dict: round(float(measure(meters_dict[histogram_key].histogram).mean()), 4)
