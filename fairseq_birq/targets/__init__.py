"""Target sources, by the name that `model.targets.use` and the criterion's weights call them."""

from fairseq_birq.targets.own_layer import OwnLayerTargets
from fairseq_birq.targets.raw_input import RawInputTargets

TARGETS = {"raw_input": RawInputTargets, "own_layer": OwnLayerTargets}
