"""The one metric of our recipes: flat sums, added up over the batches and processes of a log interval."""

from typing import Iterable

import torch
from torcheval.metrics.metric import Metric


class Sums(Metric[dict]):
    """Adds up numbers and tensors by their keys, in float64. All batches of a recipe have the same keys."""

    sums: dict

    def __init__(self, *, device=None):
        super().__init__(device=device)
        self._add_state("sums", {})

    @torch.inference_mode()
    def update(self, numbers: dict):
        for key, value in numbers.items():
            value = torch.as_tensor(value, dtype=torch.float64, device=self.device).detach()
            self.sums[key] = self.sums[key] + value if key in self.sums else value.clone()
        return self

    @torch.inference_mode()
    def compute(self) -> dict:
        return dict(self.sums)

    @torch.inference_mode()
    def merge_state(self, metrics: Iterable["Sums"]):
        for metric in metrics:
            self.update(metric.sums)
        return self
