"""What criterion `birq` logs of the codes: sums of one batch, and the curves that come of the sums of all of them.

fairseq adds up the numbers of all processes and batches by their keys, so keys are flat: `<kind>.<curve>`, a curve being
`<source>` or, for the label columns of one group, `<source>.<group>`. Only `pack` and `unpack` know this spelling.
"""

from typing import Dict

import torch
from fairseq.logging import meters, metrics
from torch import Tensor

from fairseq_birq.objective.code_health import normalised_mutual_information, perplexity, top_share, used_share

Sums = Dict[str, Dict[str, Tensor]]  # by kind and curve

_PER_FRAME = {  # kind of sum over frames and label columns -> name of the curve of its mean
    "correct": "accuracy",
    "sampled_nearest": "sampled_nearest",
    "entropy": "label_entropy",
    "mean_label_entropy": "mean_label_entropy",
}
_OF_HISTOGRAMS = {"perplexity": perplexity, "top_share": top_share, "used_share": used_share}


def pack(sums: Sums) -> Dict[str, Tensor]:
    return {f"{kind}.{curve}": value for kind, curves in sums.items() for curve, value in curves.items()}


def unpack(numbers: dict) -> Sums:
    """The other way; numbers of no kind are left out."""
    sums: Sums = {}
    for key, value in numbers.items():
        kind, dot, curve = key.partition(".")
        if dot:
            sums.setdefault(kind, {})[curve] = value
    return sums


def add_up(logging_outputs) -> dict:
    """fairseq's list of the outputs of all batches, added up, on the host; they all have the same keys.

    What is on a device comes in one copy: the host waits once, and nothing that follows asks the device again, because the list
    then holds the sum in place of the outputs.
    """
    if not logging_outputs:
        return {}
    first = logging_outputs[0]
    on_device = [key for key, value in first.items() if torch.is_tensor(value) and value.device.type != "cpu"]
    total = {key: sum(output[key] for output in logging_outputs) for key in first if key not in on_device}
    if on_device:
        vectors = [torch.cat([output[key].reshape(-1).double() for key in on_device]) for output in logging_outputs]
        packed = (vectors[0] if len(vectors) == 1 else torch.stack(vectors).sum(0)).cpu()
        parts = packed.split([first[key].numel() for key in on_device])
        total.update({key: part.view(first[key].shape) for key, part in zip(on_device, parts)})
        logging_outputs[:] = [total]
    return total


def sums_of_batch(terms, columns) -> Sums:
    """Sums over frames, for each source and for each group of its label columns.

    Args:
        terms: a `LossTerm` per source.
        columns: per source, the group of each label column; empty or left out: there are no groups.
    """
    sums: Sums = {"loss": {}, "correct": {}, "histogram": {}, "sampled_nearest": {}, "entropy": {}, "mean_label_entropy": {}}
    for name, term in terms.items():
        groups = columns.get(name, ())
        for kind, value in (("loss", term.loss_sum), ("correct", term.correct), ("histogram", term.histogram.double())):
            sums[kind][name] = value
            for group in dict.fromkeys(groups):
                sums[kind][f"{name}.{group}"] = value[_columns_of(group, groups)]
        if term.sampled_nearest is not None:
            sums["sampled_nearest"][name], sums["entropy"][name] = term.sampled_nearest, term.entropy_sum
        if term.diversity_loss is not None:
            sums["mean_label_entropy"][name] = -term.diversity_loss
    return {**sums, "nmi": _agreement(terms)}


def _columns_of(group, groups):
    """Where a group's label columns are: a slice if they stand together, as a list would be a copy to the device."""
    first, count = groups.index(group), groups.count(group)
    together = all(other == group for other in groups[first : first + count])
    return slice(first, first + count) if together else [index for index, other in enumerate(groups) if other == group]


def _agreement(terms) -> Dict[str, Tensor]:
    """Normalised mutual information of the first label columns of every two sources, over the batch."""
    names = sorted(terms)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    return {f"{a}_{b}": normalised_mutual_information(terms[a].codes[:, 0], terms[b].codes[:, 0]) for a, b in pairs}


def log_curves(sums: Sums, frames: float, num_outputs: float) -> None:
    """Hand fairseq's meters what is shown. frames: M of all batches; num_outputs: how many batches."""
    for curve, losses in sums.get("loss", {}).items():
        _log_losses(curve, losses, frames)
    for kind, label in _PER_FRAME.items():
        for curve, value in sums.get(kind, {}).items():
            _log(f"{label}_{_shown(curve)}", torch.as_tensor(value).double().mean() / frames, frames)
    for curve, compared in sums.get("compared", {}).items():
        if float(compared):
            _log(f"churn_{_shown(curve)}", float(sums["changed"][curve]) / float(compared), float(compared))
    for kind in ("nmi", "gradient_norm"):
        for curve, value in sums.get(kind, {}).items():
            _log(f"{kind}_{curve}", float(value) / num_outputs, frames)
    for curve, histogram in sums.get("histogram", {}).items():
        _log_histogram(_shown(curve), histogram)


def _log_losses(curve, losses, frames):
    """The mean over label columns, and each column by itself where a source has several."""
    losses = torch.as_tensor(losses).double() / frames
    _log(f"loss_{_shown(curve)}", losses.mean(), frames)
    if losses.numel() > 1 and "." not in curve:
        for n, loss in enumerate(losses):
            _log(f"loss_{_shown(curve)}_{n}", loss, frames)


def _log(name, value, weight):
    metrics.log_scalar(name, float(value), weight, round=4)


def _shown(curve: str) -> str:
    return curve.replace(".", "_")


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


def _log_histogram(shown, histogram):
    key = f"_histogram_{shown}"  # fairseq shows no name that begins so
    metrics.log_custom(CodeHistogramMeter, key, histogram)
    for label, measure in _OF_HISTOGRAMS.items():
        metrics.log_derived(f"{label}_{shown}", _derived(measure, key))


def _derived(measure, key):
    """Of the codes of a log interval; not a number where every update of it was a bad one."""

    def measured(meters_dict):
        histogram = meters_dict[key].histogram
        return float("nan") if histogram is None else round(float(measure(histogram).mean()), 4)

    return measured
