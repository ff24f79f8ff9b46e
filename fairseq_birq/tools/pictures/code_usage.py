"""Which codes are used and which phones they stand for, as the pictures of HuBERT and vq-wav2vec show it."""

from pathlib import Path
from typing import Dict, Tuple

import torch
from torch import Tensor

from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_any_alignment
from fairseq_birq.measures.frames import collect, phones_of, rows_of_minutes
from fairseq_birq.measures.label_quality import joint_counts, label_quality
from fairseq_birq.model import BirqModel
from fairseq_birq.objective.code_health import perplexity, used_share
from fairseq_birq.tools.pictures.drawing import COLOURS, heat_map, picture

_PHONES = 40  # rows that a page holds


def codes_and_phones(
    checkpoint, manifest, alignment, source="raw_input", column=0, minutes=60.0, tier="phones"
) -> Tuple[Tensor, Dict[str, int], Tensor]:
    """(V,) counts of one label column over all frames, phones by name, and (phones, V) counts of those that carry one.

    Raises:
        UserError: the checkpoint has no such source or column, or an alignment does not fit.
    """
    model = BirqModel.from_checkpoint(checkpoint)
    known = [name for name, target in model.targets.items() if target.active and not target.needs_label_files]
    if source not in known:
        raise UserError(f"{checkpoint}: has no target source {source!r} to show; it has {known}")
    frontend, phone_ids = model.speech_encoder.frontend, {}
    rows = rows_of_minutes(manifest, minutes, frontend.sample_rate)
    reference = read_any_alignment(alignment, read_manifest(Path(manifest)), tier)
    phones = phones_of(frontend, manifest, reference, phone_ids, rows)
    codes = collect(model, manifest, [source], rows=rows)[0][source]
    if not 0 <= column < codes.shape[1]:
        raise UserError(f"--column must be from 0 to {codes.shape[1] - 1}, but is {column}")
    if not phone_ids:
        raise UserError(f"{alignment}: has no phone but silence for these utterances")
    size, codes, known = model.targets[source].codebook_size, codes[:, column], phones >= 0
    joint = joint_counts(phones[known], codes[known], len(phone_ids), size)
    return torch.bincount(codes, minlength=size), phone_ids, joint


def sorted_by_phone(joint: Tensor, totals: Tensor) -> Tensor:
    """P(phone | code) of the codes that meet a phone of `joint`, by their most likely one and its probability.

    joint: (phones, V) counts, totals: (V,) counts with any phone -> (phones, used codes) float64
    """
    used = joint.sum(0).nonzero()[:, 0]
    probability = joint[:, used].double() / totals[used]
    best = probability.argmax(0)
    order = sorted(range(len(used)), key=lambda index: (int(best[index]), -float(probability[best[index], index])))
    return probability[:, order]


def draw(histogram: Tensor, phone_ids: Dict[str, int], joint: Tensor, path, title: str = "codes") -> None:
    """How often each code is used, and P(phone | code) with codes in the order of their most likely phone.

    histogram: (V,), joint: (phones, V) counts
    """
    pnmi, ordered = label_quality(joint)["pnmi"], sorted(phone_ids, key=phone_ids.get)
    by_frequency = joint.sum(1).sort(descending=True, stable=True).indices[:_PHONES]
    names = [ordered[index] for index in by_frequency]
    probability = sorted_by_phone(joint[by_frequency], joint.sum(0))
    with picture(path, height_cm=6.0 + 0.27 * len(names)) as figure:
        usage, heat = figure.subplots(2, 1, height_ratios=[3.0, 1.0 + 0.27 * len(names)])
        shares = (histogram / histogram.sum().clamp(min=1)).sort(descending=True).values
        usage.fill_between(range(1, len(shares) + 1), shares, step="mid", color=COLOURS[0], linewidth=0)
        usage.set(xlabel="rank of the code", ylabel="share of frames", xlim=(0.5, len(shares) + 0.5), ylim=(0, None))
        facts = f"perplexity {float(perplexity(histogram)):.0f}, {float(used_share(histogram)):.0%} of {len(shares)} codes used"
        usage.set_title(f"{title}: {facts}, PNMI {pnmi:.2f}")
        heat_map(heat, probability, names, [], "P(phone | code)", values=False, low=0, high=1)
        heat.set(xlabel=f"the {probability.shape[1]} codes that meet one of these phones, by the most likely one")
        heat.set(ylabel=f"the {len(names)} most frequent of {len(ordered)} phones")
