"""How much codes say about phones (HuBERT, arXiv 2106.07447, section IV)."""

from typing import Dict

import torch
from torch import Tensor

from fairseq_birq.metrics import entropy


def joint_counts(phones: Tensor, codes: Tensor, num_phones: int, num_codes: int) -> Tensor:
    """phones, codes: (M,) int64 -> (num_phones, num_codes) int64: how often they meet in a frame."""
    return torch.bincount(phones * num_codes + codes, minlength=num_phones * num_codes).view(num_phones, num_codes)


def label_quality(joint: Tensor) -> Dict[str, float]:
    """PNMI, phone purity and cluster purity of a table of counts. joint: (num_phones, num_codes).

    `pnmi` is I(phone; code) / H(phone); `phone_purity` the accuracy of naming each code's most frequent phone;
    `cluster_purity` that of naming each phone's most frequent code.
    """
    total = joint.sum().clamp(min=1)
    phone_entropy = entropy(joint.sum(1))
    information = phone_entropy + entropy(joint.sum(0)) - entropy(joint.flatten())
    return {
        "pnmi": float(information / phone_entropy) if phone_entropy > 0 else 0.0,
        "phone_purity": float(joint.amax(0).sum() / total),
        "cluster_purity": float(joint.amax(1).sum() / total),
    }


def frame_phones(intervals, num_frames: int, step_seconds: float, phone_ids: Dict[str, int], left_out=("SIL", ".")) -> Tensor:
    """The phone at the middle of every frame, -1 where there is none.

    intervals: (start_s, end_s, phone) of one utterance; phones in `left_out` count as none; `phone_ids` grows.
    """
    phones = torch.full((num_frames,), -1, dtype=torch.int64)
    middles = (torch.arange(num_frames) + 0.5) * step_seconds
    for start, end, phone in intervals:
        if phone not in left_out:
            phones[(middles >= start) & (middles < end)] = phone_ids.setdefault(phone, len(phone_ids))
    return phones
