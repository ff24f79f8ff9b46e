"""All frames of a corpus: what a model's layers and target sources make of them, and which phone each one carries."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from fairseq_birq.analysis.label_quality import frame_phones
from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.data.text import text_lines
from fairseq_birq.errors import UserError
from fairseq_birq.soft_codes import SoftCodes
from fairseq_birq.targets.base import TargetInputs

Alignment = Dict[int, List[Tuple[float, float, str]]]  # row -> (start_s, end_s, phone)
_COLUMNS = ("utt_index", "start_s", "end_s", "phone")


def read_alignment(path) -> Alignment:
    """A table with the columns utt_index, start_s, end_s and phone, tab-separated.

    Raises:
        UserError: the file is missing or not UTF-8, a column is missing, or a row is no interval.
    """
    lines, intervals = text_lines(path, "alignment"), defaultdict(list)
    columns = next(lines, (1, ""))[1].split("\t")
    missing = [column for column in _COLUMNS if column not in columns]
    if missing:
        raise UserError(f"{path}: has no column {missing}; an alignment needs {list(_COLUMNS)}, tab-separated")
    places = [columns.index(column) for column in _COLUMNS]
    for number, line in lines:
        if not line:
            continue
        cells = line.split("\t")
        try:
            row, start, end, phone = (convert(cells[place]) for convert, place in zip((int, float, float, str), places))
            valid = row >= 0 and 0 <= start <= end < math.inf
        except (IndexError, ValueError):
            valid = False
        if not valid:
            raise UserError(f"{path}, line {number}: not an interval: {cells}")
        intervals[row].append((start, end, phone))
    return intervals


def batches(
    manifest_path, utterances: int = 16, sample_rate: int = 16000, rows: Optional[Sequence[int]] = None
) -> Iterable[dict]:
    """Batches of `utterances` rows as a model sees them, in the manifest's order or that of `rows`; bad audio is an error."""
    dataset = AudioDataset(read_manifest(Path(manifest_path)), sample_rate=sample_rate, on_bad_audio="error")
    rows = range(len(dataset)) if rows is None else rows
    for start in range(0, len(rows), utterances):
        items = [dataset[row] for row in rows[start : start + utterances]]
        bad = [item["bad"] for item in items if "bad" in item]
        if bad:
            raise UserError(bad[0])
        yield dataset.collater(items)["net_input"]


@torch.no_grad()
def all_frames(speech_encoder, net_input: dict, num_layers: Optional[int] = None) -> TargetInputs:
    """A batch with every valid frame selected; `hidden` holds layers 0 (subsampled features) to
    `num_layers`, or nothing where that is 0."""
    waveform, padding_mask = net_input["waveform"].float(), net_input["padding_mask"]
    features = speech_encoder.frontend.features(waveform, padding_mask)
    if num_layers == 0:
        hidden, frame_padding = {}, _frame_padding(speech_encoder.frontend, padding_mask)
    else:
        subsampled, frame_padding = speech_encoder.frontend.subsample(features)
        layers = speech_encoder.encoder(subsampled, frame_padding, num_layers).layers
        hidden = dict(enumerate([subsampled, *layers]))
    keys = torch.zeros(waveform.shape[0], dtype=torch.int64, device=waveform.device)
    return TargetInputs(waveform, padding_mask, features, frame_padding, ~frame_padding, keys, hidden)


def _frame_padding(frontend, padding_mask: Tensor) -> Tensor:
    lengths = frontend.output_length((~padding_mask).sum(1))
    return torch.arange(int(frontend.output_length(padding_mask.shape[1])), device=lengths.device) >= lengths[:, None]


def noise_free_codes(targets) -> Tensor:
    """(M, N) int64 of what a target source returns: its codes, or the nearest codes of its distributions."""
    if not isinstance(targets, SoftCodes):
        return targets
    columns = [targets.column(index) for index in range(targets.num_columns)]
    return torch.stack([(unit @ codebook.to(unit.dtype).t()).argmax(-1) for unit, codebook in columns], dim=1)


@torch.no_grad()
def collect(model, manifest_path, sources: Sequence[str] = (), layers: Sequence[int] = ()):
    """Codes of target sources and hidden states of layers, over all frames of a corpus in the manifest's order.

    Args:
        model: a `birq` model in eval mode.

    Returns:
        {source: (M, N) int64} and {layer: (M, d) float}.
    """
    codes, hidden = defaultdict(list), defaultdict(list)
    for net_input in batches(manifest_path, sample_rate=model.speech_encoder.frontend.sample_rate):
        inputs = all_frames(model.speech_encoder, net_input)
        for name in sources:
            codes[name].append(noise_free_codes(model.targets[name](inputs)))
        for layer in layers:
            hidden[layer].append(inputs.hidden[layer][inputs.selected])
    return tuple({key: torch.cat(parts) for key, parts in found.items()} for found in (codes, hidden))


def phones_of(frontend, manifest_path, alignment: Alignment, phone_ids: Dict[str, int]) -> Tensor:
    """(M,) int64 phone of every encoder frame of a corpus, -1 for none; `phone_ids` grows by new phones."""
    step_seconds = frontend.step_samples / frontend.sample_rate
    samples = read_manifest(Path(manifest_path)).num_samples.tolist()
    lengths = [int(frontend.output_length(count)) for count in samples]
    rows = [frame_phones(alignment.get(row, ()), length, step_seconds, phone_ids) for row, length in enumerate(lengths)]
    return torch.cat(rows)
