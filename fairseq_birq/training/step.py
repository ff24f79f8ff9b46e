"""A step of pre-training: weights of the target sources, what the model is given, and the numbers that are logged of it."""

from typing import Any, Dict, Iterator, List

import torch

from fairseq_birq.errors import UserError
from fairseq_birq.modules import held_statistics
from fairseq_birq.objective.code_health import Churn
from fairseq_birq.training import code_curves, disturbance_curves


class SourceWeights:
    """w1 and w2 by the sources' names: 0 before a source's start, then growing over its warm-up (Algorithm 1 has constants)."""

    def __init__(self, weights, warmup_updates, start_updates, key: str = "criterion"):
        self.weights, self.warmup_updates, self.start_updates = dict(weights), dict(warmup_updates), dict(start_updates)
        self.key = key

    def at(self, sources, update: int) -> Dict[str, float]:
        """Raises UserError where a setting names a source that the model has not."""
        for key in ("weights", "warmup_updates", "start_updates"):
            unknown = sorted(set(getattr(self, key)) - set(sources))
            if unknown:
                raise UserError(f"`{self.key}.{key}` names {unknown}, but the target sources are {sorted(sources)}")
        weights = {}
        for name in sources:
            since, warmup = update - self.start_updates.get(name, 0), self.warmup_updates.get(name, 0)
            grown = 0.0 if since < 0 else min(1.0, (since + 1) / (warmup + 1))
            weights[name] = grown * self.weights.get(name, 1.0)
        return weights


def inputs_of(batch: dict) -> dict:
    """What the model is given of a collater's batch; numbers that the host knows too stay there."""
    return {**batch["net_input"], **{key: batch[key] for key in ("on_host",) if key in batch}}


def numbers_of(output, batch: dict) -> Dict[str, Any]:
    """Sums that are logged of a batch, besides those of its codes. output: a `PretrainingOutput`."""
    numbers = {
        "loss": output.loss.detach(),
        "sample_size": output.num_masked,
        "ntokens": output.num_masked,
        "nsentences": batch["id"].numel(),
        "num_frames": output.num_frames,
        "num_padded": output.num_padded,
        "audio_seconds": output.audio_seconds,
        "bad_audio": batch["bad_audio"],
        "num_outputs": 1,
    }
    return numbers if output.stage is None else {**numbers, "stage": output.stage}


def curves(sums: dict) -> Iterator[code_curves.Curve]:
    """Of such sums over all batches of a log interval: those that are means."""
    frames, valid = max(float(sums["sample_size"]), 1.0), max(float(sums["num_frames"]), 1.0)
    yield "loss", float(sums["loss"]) / frames, frames
    yield "mask_coverage", float(sums["sample_size"]) / valid, valid
    yield "padding_share", float(sums["num_padded"]) / (valid + float(sums["num_padded"])), valid
    if "stage" in sums:
        yield "stage", float(sums["stage"]) / float(sums["num_outputs"]), 1.0


def churn_of(churn: Churn, batch: dict, output) -> code_curves.Sums:
    """Zeros too are there with every batch: trainers sum the outputs of all processes by position."""
    of_batch = (*batch["id"].tolist(), output.num_frames)
    found = {name: churn.of_batch(name, of_batch, term.codes) for name, term in output.terms.items()}
    return {key: {name: pair[i] for name, pair in found.items()} for i, key in enumerate(("changed", "compared"))}


def packed(output, code_sums: code_curves.Sums) -> Dict[str, Any]:
    """Flat sums of the codes and of the disturbances."""
    return {**code_curves.pack(code_sums), **disturbance_curves.pack(output.realised)}


def gradient_norms(model, batch: dict, weights: Dict[str, float], names: List[str], num_masked: int) -> dict:
    """Norm of each source's weighted, averaged gradient on the speech encoder, in passes of their own.

    They move neither running statistics nor random numbers, so that training is the same without them. Also where
    nothing is masked, as 0: processes go through these passes together.
    """
    norms = {}
    parameters = [p for p in model.speech_encoder.parameters() if p.requires_grad]
    for name in names:
        alone = {other: weights[name] if other == name else 0.0 for other in weights}
        with held_statistics.held(), torch.random.fork_rng(_gpus(batch)):
            loss = model(**inputs_of(batch), weights=alone).loss / max(num_masked, 1)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        squares = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
        norms[name] = torch.stack(squares).sum().sqrt() if squares else loss.detach().double() * 0.0
    return norms


def _gpus(batch) -> list:
    device = batch["net_input"]["waveform"].device
    return [device] if device.type == "cuda" else []
