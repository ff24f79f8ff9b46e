"""What an audit compares."""

from dataclasses import dataclass
from typing import Callable, Dict, Optional, Union

from torch import Tensor

from fairseq_birq.objective.fitted_quantizer import FittedQuantizer
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.structs import TargetInputs

Quantizer = Union[RandomProjectionQuantizer, FittedQuantizer]


@dataclass
class Candidate:
    """One way to make the vectors that are quantized."""

    series: str  # candidates of a series are joined in the picture
    place: str  # and stand at this place of its axis
    config: str  # what to write into a recipe to get it, without the quantizer's seed
    vectors: Callable[[TargetInputs], Tensor]  # (M, D) of the selected frames
    quantizers: Dict[int, Quantizer]  # by seed
    seed_key: Optional[str] = None  # the recipe's key of that seed
