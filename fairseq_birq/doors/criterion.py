"""Door: criterion `birq`. Weighs the target sources' losses, logs the health of their codes."""

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics

from fairseq_birq.config import BirqCriterionConfig
from fairseq_birq.doors import code_logging, disturbance_logging
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.modules import held_statistics
from fairseq_birq.objective.code_health import Churn, CollapseAlarm


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
        self.weights, self.warmup_updates, self.start_updates = dict(weights), dict(warmup_updates), dict(start_updates)
        self.log_grad_every = log_grad_every
        self.churn = Churn()
        self.collapse_alarm = CollapseAlarm(collapse_min_perplexity, collapse_patience, stop=str(collapse_action) == "stop")

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
        output = model(**_inputs(sample), weights=weights)
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
        sums = code_logging.sums_of_batch(output.terms, output.columns)
        if not self.training:
            sums.update(self._churn((*sample["id"].tolist(), output.num_frames), output.terms))
        elif self.log_grad_every and model.num_updates % self.log_grad_every == 0:
            sums["gradient_norm"] = _gradient_norms(model, sample, weights, list(output.terms), output.num_masked)
        logging_output.update(code_logging.pack(sums))
        logging_output.update(disturbance_logging.pack(output.realised))
        return output.loss, output.num_masked, logging_output

    def _churn(self, batch, terms) -> code_logging.Sums:
        """Zeros too are there with every batch: fairseq sums the outputs of all processes by position."""
        found = {name: self.churn.of_batch(name, batch, term.codes) for name, term in terms.items()}
        return {key: {name: pair[i] for name, pair in found.items()} for i, key in enumerate(("changed", "compared"))}

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Log sums over processes; called once an update and once a validation batch."""
        sums = code_logging.add_up(logging_outputs)
        frames, valid = max(float(sums["sample_size"]), 1.0), max(float(sums["num_frames"]), 1.0)
        metrics.log_scalar("loss", float(sums["loss"]) / frames, frames, round=4)
        metrics.log_scalar("mask_coverage", float(sums["sample_size"]) / valid, valid, round=3)
        metrics.log_scalar("padding_share", float(sums["num_padded"]) / (valid + float(sums["num_padded"])), valid, round=3)
        metrics.log_scalar_sum("bad_audio", int(sums["bad_audio"]))
        metrics.log_speed("audio_seconds_per_second", float(sums["audio_seconds"]), round=1)
        if "stage" in sums:
            metrics.log_scalar("stage", float(sums["stage"]) / float(sums["num_outputs"]), 1, round=2)
        disturbance_logging.log(sums)
        code_logging.log_curves(code_logging.unpack(sums), frames, float(sums["num_outputs"]))

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
        sums = code_logging.unpack(code_logging.add_up(logging_outputs))
        self.collapse_alarm.watch(sums.get("histogram", {}))


def _gradient_norms(model, sample, weights, names, num_masked) -> dict:
    """Norm of each source's weighted, averaged gradient on the speech encoder, in passes of their own.

    They move neither running statistics nor random numbers, so that training is the same without them. Also where
    nothing is masked, as 0: processes go through these passes together.
    """
    norms = {}
    parameters = [p for p in model.speech_encoder.parameters() if p.requires_grad]
    for name in names:
        alone = {other: weights[name] if other == name else 0.0 for other in weights}
        with held_statistics.held(), torch.random.fork_rng(_gpus(sample)):
            loss = model(**_inputs(sample), weights=alone).loss / max(num_masked, 1)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        squares = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
        norms[name] = torch.stack(squares).sum().sqrt() if squares else loss.detach().double() * 0.0
    return norms


def _inputs(sample) -> dict:
    """What the model is given; numbers that the host knows too stay there."""
    return {**sample["net_input"], **{key: sample[key] for key in ("on_host",) if key in sample}}


def _gpus(sample) -> list:
    device = sample["net_input"]["waveform"].device
    return [device] if device.type == "cuda" else []
