"""How much codes say about phones (HuBERT, arXiv 2106.07447, section IV)."""

from typing import Dict

import torch
from torch import Tensor

from fairseq_birq.objective.code_health import bits_per_second, entropy, perplexity, repeated_share, top_share

SILENCES = ("SIL", ".", "", "sil", "sp", "spn", "<eps>")  # of the aligners in use; they count as no phone


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


def phone_measures(codes: Tensor, phones: Tensor, num_codes: int, seed: int = 0) -> Dict[str, float]:
    """`label_quality`, mean over label columns, and under `<name>_shuffled` the same with the phones shuffled.

    Many codes on few frames look informative by chance. `pnmi_adjusted` is `(pnmi - shuffled) / (1 - shuffled)`: 0 by
    chance, 1 where codes tell the phone (as adjusted mutual information, Vinh et al. 2010, JMLR 11:2837-2854).

    codes: (M, N) int64, phones: (M,) int64, no frame without a phone
    """
    shuffled = phones[torch.randperm(len(phones), generator=torch.Generator().manual_seed(seed))]
    num_phones, found = int(phones.max()) + 1 if len(phones) else 1, {}
    for suffix, labels in (("", phones), ("_shuffled", shuffled)):
        rows = [label_quality(joint_counts(labels, column, num_phones, num_codes)) for column in codes.t()]
        found.update({f"{name}{suffix}": sum(row[name] for row in rows) / len(rows) for name in rows[0]})
    chance = found["pnmi_shuffled"]
    found["pnmi_adjusted"] = (found["pnmi"] - chance) / (1 - chance) if chance < 1 else 0.0
    return found


def code_measures(codes: Tensor, is_first: Tensor, num_codes: int, frames_per_second: float) -> Dict[str, float]:
    """What codes are like without any reference, mean over label columns.

    `perplexity`; `used_codes` and `dead_codes`, numbers of codes; `top_share` of the most frequent code;
    `repeated_share`, of frames with the code of the frame before; `bits_per_second`.

    codes: (M, N) int64, is_first: (M,) bool, True on the first frame of each utterance
    """
    histograms = torch.stack([torch.bincount(column, minlength=num_codes) for column in codes.t()])
    used = float((histograms > 0).sum(1).double().mean())
    return {
        "perplexity": float(perplexity(histograms).mean()),
        "used_codes": used,
        "dead_codes": num_codes - used,
        "top_share": float(top_share(histograms).mean()),
        "repeated_share": float(repeated_share(codes, is_first).mean()),
        "bits_per_second": float(bits_per_second(histograms, frames_per_second).mean()),
    }


def frame_phones(intervals, num_frames: int, step_seconds: float, phone_ids: Dict[str, int], left_out=SILENCES) -> Tensor:
    """The phone at the middle of every frame, -1 where there is none.

    intervals: (start_s, end_s, phone) of one utterance; phones in `left_out` count as none; `phone_ids` grows.
    """
    phones = torch.full((num_frames,), -1, dtype=torch.int64)
    middles = (torch.arange(num_frames) + 0.5) * step_seconds
    for start, end, phone in intervals:
        if phone not in left_out:
            phones[(middles >= start) & (middles < end)] = phone_ids.setdefault(phone, len(phone_ids))
    return phones
