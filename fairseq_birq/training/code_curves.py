"""What is logged of the codes: sums of one batch, and the curves that come of the sums of all of them.

Trainers add up the numbers of all processes and batches by their keys, so keys are flat: `<kind>.<curve>`, a curve being
`<source>` or, for the label columns of one group, `<source>.<group>`. Only `pack` and `unpack` know this spelling.
"""

from typing import Callable, Dict, Iterator, Tuple

import torch
from torch import Tensor

from fairseq_birq.objective.code_health import normalised_mutual_information, perplexity, top_share, used_share

Sums = Dict[str, Dict[str, Tensor]]  # by kind and curve
Curve = Tuple[str, float, float]  # name, value and its weight

_PER_FRAME = {  # kind of sum over frames and label columns -> name of the curve of its mean
    "correct": "accuracy",
    "sampled_nearest": "sampled_nearest",
    "entropy": "label_entropy",
    "mean_label_entropy": "mean_label_entropy",
}
OF_HISTOGRAMS: Dict[str, Callable[[Tensor], Tensor]] = {
    "perplexity": perplexity,
    "top_share": top_share,
    "used_share": used_share,
}


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


def curves(sums: Sums, frames: float, num_outputs: float) -> Iterator[Curve]:
    """All that is shown but the histograms. frames: M of all batches; num_outputs: how many batches."""
    for curve, losses in sums.get("loss", {}).items():
        yield from _losses(curve, losses, frames)
    for kind, label in _PER_FRAME.items():
        for curve, value in sums.get(kind, {}).items():
            yield f"{label}_{shown(curve)}", float(torch.as_tensor(value).double().mean() / frames), frames
    for curve, compared in sums.get("compared", {}).items():
        if float(compared):
            yield f"churn_{shown(curve)}", float(sums["changed"][curve]) / float(compared), float(compared)
    for kind in ("nmi", "gradient_norm"):
        for curve, value in sums.get(kind, {}).items():
            yield f"{kind}_{curve}", float(value) / num_outputs, frames


def curves_of_histograms(sums: Sums) -> Dict[str, float]:
    """`perplexity`, `top_share` and `used_share` of the codes of all batches that were added up."""
    histograms = sums.get("histogram", {}).items()
    return {f"{label}_{shown(curve)}": measured(of, h) for curve, h in histograms for label, of in OF_HISTOGRAMS.items()}


def measured(measure: Callable[[Tensor], Tensor], histogram: Tensor) -> float:
    """The mean over label columns of one of `OF_HISTOGRAMS`."""
    return round(float(measure(histogram).mean()), 4)


def _losses(curve, losses, frames) -> Iterator[Curve]:
    """The mean over label columns, and each column by itself where a source has several."""
    losses = torch.as_tensor(losses).double() / frames
    yield f"loss_{shown(curve)}", float(losses.mean()), frames
    if losses.numel() > 1 and "." not in curve:
        for n, loss in enumerate(losses):
            yield f"loss_{shown(curve)}_{n}", float(loss), frames


def shown(curve: str) -> str:
    return curve.replace(".", "_")
