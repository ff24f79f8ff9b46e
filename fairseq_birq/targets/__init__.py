"""Target sources, by the name that `model.targets.use` and the criterion's weights call them.

    raw_input       BEST-RQ (arXiv 2202.01855), section 3.1; the anchoring labels y(x) of BiRQ, and stage 0 of Latent-RQ
    own_layer       BiRQ (arXiv 2509.15430), section 3: the enhanced labels y^(k)(theta; x)
    snapshot        Latent-RQ (PMLR 312:78-93, 2026), section 3
    moving_average  ours, with the decay of data2vec (arXiv 2202.03555), section 3.3
    label_file      labels of an earlier model, as in the rounds of HuBERT (arXiv 2106.07447)

docs/methods.md has their equations.
"""

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
