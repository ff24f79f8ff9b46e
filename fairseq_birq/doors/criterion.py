"""Door: criterion `birq`. Weighs the target sources' losses, logs the health of their codes."""

import logging

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import meters
from fairseq.logging import metrics as fairseq_metrics

from fairseq_birq.config import BirqCriterionConfig
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.modules import held_statistics
from fairseq_birq.objective.code_health import normalised_mutual_information, perplexity, top_share, used_share

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


def meter_of_code_histograms(_) -> type:
    """What `patches` puts into fairseq's module of meters, where it looks up the meters of a checkpoint by name."""
    return CodeHistogramMeter


@register_criterion("birq", dataclass=BirqCriterionConfig)
class BirqCriterion(FairseqCriterion):
    """Loss = sum over sources of weight x cross-entropy at masked frames, per masked frame, in nats.

    BiRQ's reward for varied labels is part of it where `diversity_weight` is set.
    """

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
        self.weights, self.warmup_updates, self.start_updates = dict(weights), dict(warmup_updates), dict(start_updates)
        self.log_grad_every = log_grad_every
        self.collapse_min_perplexity = collapse_min_perplexity
        self.collapse_patience = collapse_patience
        self.collapse_action = str(collapse_action)
        self.updates_below = {}
        self.codes_of_last_validation = {}

    def weights_at(self, sources, update: int) -> dict:
        """The weight of every source: 0 before its start, then growing over its warm-up (Algorithm 1 has constants).

        Raises:
            UserError: a setting names a source that the model has not.
        """
        for key in ("weights", "warmup_updates", "start_updates"):
            unknown = sorted(set(getattr(self, key)) - set(sources))
            if unknown:
                raise UserError(f"`criterion.{key}` names {unknown}, but the target sources are {sorted(sources)}")
        weights = {}
        for name in sources:
            since, warmup = update - self.start_updates.get(name, 0), self.warmup_updates.get(name, 0)
            grown = 0.0 if since < 0 else min(1.0, (since + 1) / (warmup + 1))
            weights[name] = grown * self.weights.get(name, 1.0)
        return weights

    @reports_user_errors
    def forward(self, model, sample, reduce=True):
        """Return (loss summed over masked frames, M, logging output)."""
        weights = self.weights_at(list(model.targets), model.num_updates)
        output = model(**sample["net_input"], weights=weights)
        logging_output = {
            "loss": output.loss.detach(),
            "sample_size": output.num_masked,
            "ntokens": output.num_masked,
            "nsentences": sample["id"].numel(),
            "num_frames": output.num_frames,
            "num_padded": output.num_padded,
            "audio_seconds": output.audio_seconds,
            "bad_audio": sample["bad_audio"],
            "num_outputs": 1,
        }
        if output.stage is not None:
            logging_output["stage"] = output.stage
        for name, term in output.terms.items():
            logging_output.update(_source_output(name, term, output.columns.get(name, ())))
        logging_output.update(_agreement(output.terms))
        if not self.training:
            logging_output.update(self._churn((*sample["id"].tolist(), output.num_frames), output.terms))
        elif self.log_grad_every and model.num_updates % self.log_grad_every == 0:
            logging_output.update(_gradient_norms(model, sample, weights, list(output.terms), output.num_masked))
        return output.loss, output.num_masked, logging_output

    def _churn(self, batch, terms) -> dict:
        """How many codes of a validation batch are other than at the last validation; masks are the same.

        batch: tells it from all others
        The keys are there with every batch: fairseq sums the outputs of all processes by position.
        """
        outputs = {}
        for name, term in terms.items():
            key = (name, batch)
            before = self.codes_of_last_validation.get(key)
            known = before is not None and before.shape == term.codes.shape
            before = before if known else term.codes
            outputs[f"changed.{name}"] = (before != term.codes).double().mean(1).sum()
            outputs[f"compared.{name}"] = before.shape[0] if known else 0
            self.codes_of_last_validation[key] = term.codes
        return outputs

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
        fairseq_metrics.log_scalar_sum("bad_audio", int(sums["bad_audio"]))
        fairseq_metrics.log_speed("audio_seconds_per_second", float(sums["audio_seconds"]), round=1)
        if "stage" in sums:
            log("stage", float(sums["stage"]) / float(sums["num_outputs"]), 1, round=2)
        for key in sums:
            kind, _, name = key.partition(".")
            if kind == "histogram":
                _log_source(name, sums, frames)
            elif kind in ("nmi", "gradient_norm"):
                log(f"{kind}_{name}", float(sums[key]) / float(sums["num_outputs"]), frames, round=4)

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


def _source_output(name, term, columns) -> dict:
    """Sums of a source over its label columns, and over those of each group as `<source>.<group>`."""
    sums = {"loss": term.loss_sum, "correct": term.correct, "histogram": term.histogram.double()}
    outputs = {f"{key}.{name}": value for key, value in sums.items()}
    for group in dict.fromkeys(columns):
        mine = [index for index, column in enumerate(columns) if column == group]
        outputs.update({f"{key}.{name}.{group}": value[mine] for key, value in sums.items()})
    if term.sampled_nearest is not None:
        outputs.update({f"sampled_nearest.{name}": term.sampled_nearest, f"entropy.{name}": term.entropy_sum})
    if term.diversity_loss is not None:
        outputs[f"mean_label_entropy.{name}"] = -term.diversity_loss
    return outputs


def _agreement(terms) -> dict:
    """Normalised mutual information of the first label columns of every two sources, over the batch."""
    names = sorted(terms)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    return {f"nmi.{a}_{b}": normalised_mutual_information(terms[a].codes[:, 0], terms[b].codes[:, 0]) for a, b in pairs}


def _gradient_norms(model, sample, weights, names, num_masked) -> dict:
    """Norm of each source's weighted, averaged gradient on the speech encoder, in passes of their own.

    They move neither running statistics nor random numbers, so that training is the same without them. Also where
    nothing is masked, as 0: processes go through these passes together.
    """
    outputs = {}
    parameters = [p for p in model.speech_encoder.parameters() if p.requires_grad]
    for name in names:
        alone = {other: weights[name] if other == name else 0.0 for other in weights}
        with held_statistics.held(), torch.random.fork_rng(_gpus(sample)):
            loss = model(**sample["net_input"], weights=alone).loss / max(num_masked, 1)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        squares = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
        outputs[f"gradient_norm.{name}"] = torch.stack(squares).sum().sqrt() if squares else loss.detach().double() * 0.0
    return outputs


def _gpus(sample) -> list:
    device = sample["net_input"]["waveform"].device
    return [device] if device.type == "cuda" else []


def _log_source(name, sums, frames):
    log = fairseq_metrics.log_scalar
    losses = torch.as_tensor(sums[f"loss.{name}"]).double() / frames
    shown, is_group = name.replace(".", "_"), "." in name
    log(f"loss_{shown}", float(losses.mean()), frames, round=4)
    if losses.numel() > 1 and not is_group:
        for n, loss in enumerate(losses.tolist()):
            log(f"loss_{shown}_{n}", loss, frames, round=4)
    for key, label in (("correct", "accuracy"), ("sampled_nearest", "sampled_nearest"), ("entropy", "label_entropy")):
        if f"{key}.{name}" in sums:
            log(f"{label}_{shown}", float(torch.as_tensor(sums[f"{key}.{name}"]).double().mean()) / frames, frames, round=4)
    if f"mean_label_entropy.{name}" in sums:
        log(f"mean_label_entropy_{shown}", float(sums[f"mean_label_entropy.{name}"]) / frames, frames, round=4)
    compared = float(sums.get(f"compared.{name}", 0))
    if compared:
        log(f"churn_{shown}", float(sums[f"changed.{name}"]) / compared, compared, round=4)
    histogram_key = f"_histogram_{shown}"
    fairseq_metrics.log_custom(CodeHistogramMeter, histogram_key, sums[f"histogram.{name}"])
    for label, measure in (("perplexity", perplexity), ("top_share", top_share), ("used_share", used_share)):
        fairseq_metrics.log_derived(f"{label}_{shown}", _derived(measure, histogram_key))


def _derived(measure, histogram_key):
    """Of the codes of a log interval; not a number where every update of it was a bad one."""

    def measured(meters_dict):
        histogram = meters_dict[histogram_key].histogram
        return float("nan") if histogram is None else round(float(measure(histogram).mean()), 4)

    return measured
