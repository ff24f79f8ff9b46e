"""Labels measured on a manifest, with pictures: what the codes of a checkpoint say about phones."""

from pathlib import Path
from typing import List
from xml.etree.ElementTree import Element

import torch

from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_any_alignment
from fairseq_birq.measures.frames import collect, frame_counts, phones_of, rows_of_minutes
from fairseq_birq.measures.label_quality import code_measures, joint_counts, phone_measures
from fairseq_birq.model import BirqModel
from fairseq_birq.tools.pictures import code_usage, utterance
from fairseq_birq.tools.report.html import missing, node, picture, section, table

_MEASURES = {
    "perplexity": ("perplexity", ".0f"),
    "used_codes": ("codes used", ".0f"),
    "top_share": ("most frequent code", ".1%"),
    "repeated_share": ("same as the frame before", ".1%"),
    "bits_per_second": ("bits/s", ".0f"),
    "pnmi": ("PNMI", ".3f"),
    "pnmi_shuffled": ("PNMI, shuffled", ".3f"),
    "pnmi_adjusted": ("PNMI, adjusted", ".3f"),
    "phone_purity": ("phone purity", ".3f"),
}


def measured(checkpoint, manifest, alignment=None, tier="phones", minutes=20.0) -> List[Element]:
    """A table of the codes of every active target source on a manifest, and a picture of each where phones are known.

    Raises:
        UserError: the manifest, its audio or the alignment is wrong.
    """
    model, found = BirqModel.from_checkpoint(checkpoint), []
    frontend, phone_ids = model.speech_encoder.frontend, {}
    rows = rows_of_minutes(manifest, minutes, frontend.sample_rate)
    counts = list(frame_counts(frontend, manifest, rows).values())
    is_first = torch.cat([torch.arange(count) == 0 for count in counts])
    phones = None
    if alignment is not None:
        reference = read_any_alignment(alignment, read_manifest(Path(manifest)), tier)
        phones = phones_of(frontend, manifest, reference, phone_ids, rows)
        if not phone_ids:
            raise UserError(f"{alignment}: has no phone but silence for these utterances")
    sources = [name for name, source in model.targets.items() if source.active and not source.needs_label_files]
    codes, pictures = collect(model, manifest, sources, rows=rows)[0], []
    for name in sources:
        size = model.targets[name].codebook_size
        measures = code_measures(codes[name], is_first, size, frontend.sample_rate / frontend.step_samples)
        if phones is not None:
            known = phones >= 0
            measures.update(phone_measures(codes[name][known], phones[known], size))
            pictures.append(_usage(name, codes[name][:, 0], phones, phone_ids, size))
        found.append([name, *(format(measures[key], form) for key, (_, form) in _MEASURES.items() if key in measures)])
    if not found:
        return [node("p", "The checkpoint has no target source whose codes can be computed from audio.")]
    head = ["target source", *(title for key, (title, _) in _MEASURES.items() if key in measures)]
    caption = f"All frames of {len(rows)} utterances of {Path(manifest).name}, means over codebooks"
    if phones is None:
        pictures.append(missing("What codes say about phones", "--alignment FILE"))
    else:
        caption += "; shuffled: by chance, adjusted: 0 by chance and 1 where codes tell the phone"
    return [node("h3", f"On {Path(manifest).name}"), table(head, found, caption), *pictures]


def _usage(name, codes, phones, phone_ids, size):
    joint = joint_counts(phones[phones >= 0], codes[phones >= 0], len(phone_ids), size)
    title = f"{name}, codebook 0"
    return picture(
        lambda path: code_usage.draw(torch.bincount(codes, minlength=size), phone_ids, joint, path, title=title),
        f"How often codes of {title} are used, and which phones they stand for",
        wide=True,
    )


def utterance_section(checkpoint, manifest, row=0, alignment=None, tier="phones") -> Element:
    """One utterance: log-Mel, mask, phones, codes."""
    found = utterance.of_checkpoint(checkpoint, manifest, row, alignment, tier=tier)
    figure = picture(
        lambda path: utterance.draw(found, path),
        f"Log-Mel spectrum, mask and codes of {found.title}",
        "Equal colours in a row are equal codes. Another utterance: --row N.",
        wide=True,
    )
    return section("utterance", "One utterance", figure)
