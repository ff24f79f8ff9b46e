"""Disturbed input, clean targets: what the encoder hears besides the speech, and in which order.

    reverberation   impulse responses of rooms
    overlap         speech of a different utterance of the batch (WavLM, arXiv 2110.13900)
    noise           recorded noises (as in WavLM and NEST, arXiv 2408.13106)
    volume          louder, softer
    frequency_masks bands of Mel bins hidden from the encoder (SpecAugment, arXiv 1904.08779); on features, after all others

The registry's key is that of `model.disturbance`. A new kind is one file and one line here.
"""

from typing import Dict, Optional, Type

from fairseq_birq.disturbance.base import Disturbance
from fairseq_birq.disturbance.disturber import Disturber
from fairseq_birq.disturbance.frequency_masks import FrequencyMasks
from fairseq_birq.disturbance.noise import Noise
from fairseq_birq.disturbance.overlap import Overlap
from fairseq_birq.disturbance.reverberation import Reverberation
from fairseq_birq.disturbance.volume import Volume
from fairseq_birq.settings import assembled, nested

DISTURBANCES: Dict[str, Type[Disturbance]] = {
    kind.name: kind for kind in (Reverberation, Overlap, Noise, Volume)
}  # in this order

DisturbanceConfig = assembled(
    "DisturbanceConfig",
    __name__,
    [(kind.name, kind.Config, nested(kind.Config)) for kind in (*DISTURBANCES.values(), FrequencyMasks)],
    "What the encoder hears besides the speech, in training alone; targets come from clean speech.",
)


def build_disturber(cfg, frontend) -> Optional[Disturber]:
    """What disturbs the input, or None where nothing does.

    cfg: a `DisturbanceConfig`; frontend: of the encoder that hears it

    Raises:
        UserError: settings that cannot be.
    """
    built = [kind.build(getattr(cfg, name), frontend.sample_rate) for name, kind in DISTURBANCES.items()]
    active = [one for one in built if one.prob > 0]
    masks = FrequencyMasks.build(cfg.frequency_masks, frontend)
    return Disturber(active, masks) if active or masks is not None else None
