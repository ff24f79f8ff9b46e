"""Model family `birq`, which is `fairseq_birq.model.BirqModel`."""

from fairseq_birq.config import BirqConfig
from fairseq_birq.fairseq2.state import TensorState
from fairseq_birq.model import BirqModel


class Fairseq2BirqModel(TensorState, BirqModel):
    """The pre-training model as fairseq2 wants it; the names of its parameters are the plain model's."""

    def requires_grad_(self, requires_grad: bool = True):
        """fairseq2 asks this of the whole model before training. Targets are never trained: a frozen encoder stays frozen."""
        super().requires_grad_(requires_grad)
        self.targets.requires_grad_(False)
        return self


def create_model(config: BirqConfig) -> Fairseq2BirqModel:
    """Raises UserError for settings that cannot be."""
    return Fairseq2BirqModel.build_model(config)
