"""Target sources, by the name that `model.targets.use` and the criterion's weights call them."""

from fairseq_birq.targets.label_file import LabelFileTargets
from fairseq_birq.targets.moving_average import MovingAverageTargets
from fairseq_birq.targets.own_layer import OwnLayerTargets
from fairseq_birq.targets.raw_input import RawInputTargets
from fairseq_birq.targets.snapshot import SnapshotTargets

TARGETS = {
    "raw_input": RawInputTargets,
    "own_layer": OwnLayerTargets,
    "snapshot": SnapshotTargets,
    "moving_average": MovingAverageTargets,
    "label_file": LabelFileTargets,
}
