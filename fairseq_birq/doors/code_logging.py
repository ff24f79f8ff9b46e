"""How fairseq logs the curves of `training/code_curves.py`: sums of all processes, and meters."""

import torch
from fairseq.logging import meters, metrics

from fairseq_birq.objective.code_health import perplexity
from fairseq_birq.training.code_curves import OF_HISTOGRAMS, Sums, curves, measured, shown


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


def log_curves(sums: Sums, frames: float, num_outputs: float) -> None:
    """Hand fairseq's meters what is shown. frames: M of all batches; num_outputs: how many batches."""
    for name, value, weight in curves(sums, frames, num_outputs):
        metrics.log_scalar(name, value, weight, round=4)
    for curve, histogram in sums.get("histogram", {}).items():
        _log_histogram(shown(curve), histogram)


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


def _log_histogram(name, histogram):
    key = f"_histogram_{name}"  # fairseq shows no name that begins so
    metrics.log_custom(CodeHistogramMeter, key, histogram)
    for label, measure in OF_HISTOGRAMS.items():
        metrics.log_derived(f"{label}_{name}", _derived(measure, key))


def _derived(measure, key):
    """Of the codes of a log interval; not a number where every update of it was a bad one."""

    def of_interval(meters_dict):
        histogram = meters_dict[key].histogram
        return float("nan") if histogram is None else measured(measure, histogram)

    return of_interval
