"""Target sources, by the name that `model.targets.use` and the criterion's weights call them.

    raw_input       BEST-RQ (arXiv 2202.01855), section 3.1; the anchoring labels y(x) of BiRQ, and stage 0 of Latent-RQ
    own_layer       BiRQ (arXiv 2509.15430), section 3: the enhanced labels y^(k)(theta; x)
    snapshot        Latent-RQ (PMLR 312:78-93, 2026), section 3
    moving_average  ours, with the decay of data2vec (arXiv 2202.03555), section 3.3
    label_file      labels of an earlier model, as in the rounds of HuBERT (arXiv 2106.07447)

docs/methods.md has their equations. A new source is one file and one line here: its class has a `Config` and a `build`.
"""

from typing import Dict, List, Type

from torch import nn

from fairseq_birq.errors import UserError
from fairseq_birq.settings import assembled, nested, setting
from fairseq_birq.targets.base import TargetContext, TargetSource
from fairseq_birq.targets.label_file import LabelFileTargets
from fairseq_birq.targets.moving_average import MovingAverageTargets
from fairseq_birq.targets.own_layer import OwnLayerTargets
from fairseq_birq.targets.raw_input import RawInputTargets
from fairseq_birq.targets.snapshot import SnapshotTargets

TARGETS: Dict[str, Type[TargetSource]] = {  # the anchor first: others may share its codebook
    "raw_input": RawInputTargets,
    "own_layer": OwnLayerTargets,
    "snapshot": SnapshotTargets,
    "moving_average": MovingAverageTargets,
    "label_file": LabelFileTargets,
}

TargetsConfig = assembled(
    "TargetsConfig",
    __name__,
    [
        ("use", List[str], setting(lambda: ["raw_input"], "the target sources in use, by name")),
        *[(name, source.Config, nested(source.Config)) for name, source in TARGETS.items()],
    ],
    "Which sources are in use, and the settings of each.",
)


def build_targets(cfg, frontend: nn.Module, target_encoder=None) -> nn.ModuleDict:
    """The target sources of a `BirqConfig`, in the order of the registry.

    Args:
        frontend: the trained encoder's.
        target_encoder: see `TargetContext`.

    Raises:
        UserError: settings that cannot be.
    """
    use = list(cfg.targets.use)
    unknown = [name for name in use if name not in TARGETS]
    if unknown or not use:
        raise UserError(f"`model.targets.use` is {use}; known target sources are {sorted(TARGETS)}")
    takers = [name for name, source in TARGETS.items() if source.takes_target_encoder]
    if target_encoder and not set(takers) & set(use):
        raise UserError(f"`model.target_encoder_path` needs `{'` or `'.join(takers)}` among `model.targets.use`")
    targets = nn.ModuleDict()
    for name, source in TARGETS.items():
        if name in use:
            context = TargetContext(cfg, frontend, dict(targets.items()), target_encoder)
            targets[name] = source.build(getattr(cfg.targets, name), context)
    return targets
