"""One utterance on one time axis: log-Mel, mask, phones, codes of every target source, and which of them changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import torch
from torch import Tensor

from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.frontends.logmel import LogMel
from fairseq_birq.measures.alignment import read_any_alignment
from fairseq_birq.measures.frames import all_frames, batches, noise_free_codes
from fairseq_birq.measures.label_quality import SILENCES
from fairseq_birq.model import BirqModel
from fairseq_birq.objective.masking import utterance_keys
from fairseq_birq.tools.pictures.drawing import COLOUR_MAP, picture


@dataclass
class Utterance:
    """What is drawn of one utterance."""

    title: str
    log_mel: Tensor  # (F, bins)
    seconds: float
    step_seconds: float  # of an encoder frame
    mask: Tensor  # (T,) bool, True on masked frames
    codes: Dict[str, Tensor]  # source -> (T, N) int64, noise-free
    changed: Dict[str, Tensor]  # source -> (T, N) bool, against an earlier checkpoint
    intervals: List[tuple]  # (start_s, end_s, phone)
    fixed: Sequence[str] = ()  # sources whose codes training cannot change


def of_checkpoint(checkpoint, manifest, row=0, alignment=None, before=None, tier="phones") -> Utterance:
    """Row `row` of a manifest, counted from 0, as a pre-training checkpoint sees it.

    before: an earlier checkpoint of the same run; codes that differ from its are marked

    Raises:
        UserError: a file is wrong, or the manifest has no such row.
    """
    table, model = read_manifest(Path(manifest)), BirqModel.from_checkpoint(checkpoint)
    if not 0 <= row < len(table):
        raise UserError(f"--row must be from 0 to {len(table) - 1} for {manifest}, but is {row}")
    frontend = model.speech_encoder.frontend
    (net_input,) = batches(manifest, sample_rate=frontend.sample_rate, rows=[row])
    inputs, codes = _codes(model, net_input)
    changed = {}
    if before is not None:
        earlier = _codes(BirqModel.from_checkpoint(before), net_input)[1]
        for name in codes:
            if name not in earlier or earlier[name].shape != codes[name].shape:
                raise UserError(f"{before}: has no codes `{name}` like those of {checkpoint}; name one of the same run")
            changed[name] = codes[name] != earlier[name]
    mask = model.masker.sample(inputs.frame_padding_mask, utterance_keys(model.seed, 0, net_input["ids"]))[0]
    return Utterance(
        title=f"{table.name(row)}, {Path(checkpoint).name}",
        log_mel=LogMel(frontend.sample_rate)(inputs.waveform).x[0],
        seconds=inputs.waveform.shape[1] / frontend.sample_rate,
        step_seconds=frontend.step_samples / frontend.sample_rate,
        mask=mask,
        codes=codes,
        changed=changed,
        fixed=tuple(name for name, source in model.targets.items() if source.is_fixed),
        intervals=[] if alignment is None else read_any_alignment(alignment, table, tier).get(row, []),
    )


@torch.no_grad()
def _codes(model, net_input):
    inputs = all_frames(model.speech_encoder, net_input)
    sources = {name: source for name, source in model.targets.items() if source.active and not source.needs_label_files}
    return inputs, {name: noise_free_codes(source(inputs)) for name, source in sources.items()}


def draw(utterance: Utterance, path) -> None:
    """Log-Mel with masked frames shaded, phones, and one strip of colours per source and codebook.

    Equal colours in a row are equal codes. Where an earlier checkpoint is known, changed codes are black below, for sources
    whose codes can change.
    """
    strips = [("codes", name, codes) for name, codes in utterance.codes.items()]
    strips += [("changed", name, changed) for name, changed in utterance.changed.items() if name not in utterance.fixed]
    heights = [4.0, 0.55, *(0.35 + 0.22 * codes.shape[1] for _, _, codes in strips)]
    with picture(path, height_cm=2.2 + 1.12 * sum(heights)) as figure:
        all_axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        _draw_log_mel(all_axes[0], utterance)
        _draw_phones(all_axes[1], utterance)
        for axes, (kind, name, values) in zip(all_axes[2:], strips):
            _draw_strip(axes, utterance, kind, name, values)
        all_axes[0].set(title=utterance.title, xlim=(0, utterance.seconds))
        all_axes[-1].set_xlabel("seconds")
        for axes in all_axes[1:-1]:
            axes.tick_params(bottom=False)


def _draw_log_mel(axes, utterance):
    extent = (0, utterance.seconds, 0, utterance.log_mel.shape[1])
    low, high = torch.quantile(utterance.log_mel.flatten(), torch.tensor([0.05, 0.995])).tolist()
    style = dict(cmap="Greys", vmin=low, vmax=high, interpolation="nearest")
    axes.imshow(utterance.log_mel.t(), origin="lower", aspect="auto", extent=extent, **style)
    axes.set_ylabel("Mel bin")
    edges = torch.diff(utterance.mask.int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int))
    begins, ends = ((edges == sign).nonzero()[:, 0].tolist() for sign in (1, -1))
    for begin, end in zip(begins, ends):
        span = (begin * utterance.step_seconds, end * utterance.step_seconds)
        axes.axvspan(*span, color="#E69F00", alpha=0.35, linewidth=0, label="masked" if begin == begins[0] else None)
    if begins:
        axes.legend(loc="upper right", frameon=True)


def _draw_phones(axes, utterance):
    axes.set(yticks=[], ylim=(0, 1))
    axes.spines[:].set_visible(False)
    _label(axes, "phones")
    for start, end, phone in utterance.intervals:
        if phone in SILENCES:
            continue
        axes.plot([start, start], [0, 1], color="0.5", linewidth=0.5)
        axes.plot([end, end], [0, 1], color="0.5", linewidth=0.5)
        is_narrow = (end - start) / utterance.seconds < 0.011 * len(phone)  # a letter's share of the axis
        turned = dict(rotation=90, fontsize=5.5) if is_narrow else dict(fontsize=7)
        axes.text((start + end) / 2, 0.48, phone, ha="center", va="center", clip_on=True, **turned)


def _draw_strip(axes, utterance, kind, name, values):
    """values: (T, N) codes, or bool."""
    extent = (0, len(values) * utterance.step_seconds, values.shape[1], 0)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if kind == "changed":
        image, colours = values.float(), dict(cmap="Greys", vmin=0, vmax=1)
        _label(axes, f"{name}\nchanged: {float(values.float().mean()):.0%}")
    else:
        image, colours = torch.stack([_shuffled_ranks(column) for column in values.t()], dim=1), dict(cmap=COLOUR_MAP)
        _label(axes, name)
    axes.imshow(image.t(), aspect="auto", extent=extent, interpolation="nearest", **colours)


def _label(axes, text):
    axes.set_ylabel(text, rotation=0, ha="right", va="center")


def _shuffled_ranks(codes: Tensor, seed: Optional[int] = 0) -> Tensor:
    """Numbers that are equal where codes are, and far apart for neighbours in the codebook. (T,) -> (T,) float in [0, 1]."""
    unique, ranks = torch.unique(codes, return_inverse=True)
    order = torch.randperm(len(unique), generator=torch.Generator().manual_seed(seed))
    return order[ranks].float() / max(1, len(unique) - 1)
