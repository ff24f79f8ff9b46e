"""All frames of a corpus: what a model's layers and target sources make of them, and which phone each one carries."""

from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence

import torch
from torch import Tensor

from fairseq_birq.data.dataset import AudioDataset, raise_user_error
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.measures.alignment import Alignment
from fairseq_birq.measures.label_quality import frame_phones
from fairseq_birq.objective.soft_codes import SoftCodes
from fairseq_birq.progress import progress
from fairseq_birq.targets.base import TargetInputs


def batches(
    manifest_path,
    utterances: int = 16,
    sample_rate: int = 16000,
    rows: Optional[Sequence[int]] = None,
    on_bad_audio: str = "error",
    title: str = "",
) -> Iterable[dict]:
    """Batches of `utterances` rows as a model sees them, in the manifest's order.

    rows: only these, in this order
    title: of the progress that is shown; none without it
    on_bad_audio: "skip" logs bad files and leaves them out of the batch and its `ids`, up to the dataset's budget

    Raises:
        UserError: audio is bad.
    """
    dataset = AudioDataset(read_manifest(Path(manifest_path)), sample_rate=sample_rate, on_bad_audio=on_bad_audio)
    rows = range(len(dataset)) if rows is None else rows
    with progress(total=len(rows), title=title, unit="utterances") if title else nullcontext() as bar:
        for start in range(0, len(rows), utterances):
            some = rows[start : start + utterances]
            batch = dataset.collater([dataset[row] for row in some])
            raise_user_error(batch)
            yield batch["net_input"]
            if bar is not None:
                bar.update(len(some))


def rows_of_minutes(manifest_path, minutes: float, sample_rate: int = 16000) -> List[int]:
    """Rows spread evenly over a manifest that make up about so many minutes; all where it has no more."""
    samples = AudioDataset(read_manifest(Path(manifest_path)), sample_rate=sample_rate).sizes
    share = min(1.0, minutes * 60 * sample_rate / max(1, int(samples.sum())))
    count = max(1, round(share * len(samples)))
    return [number * len(samples) // count for number in range(count)]


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
def collect(model, manifest_path, sources: Sequence[str] = (), layers: Sequence[int] = (), rows: Optional[Sequence[int]] = None):
    """Codes of target sources and hidden states of layers, over all frames of a corpus in the manifest's order.

    Args:
        model: a `birq` model in eval mode; without sources, anything that has a `speech_encoder`.
        rows: of the manifest, only these.

    Returns:
        {source: (M, N) int64} and {layer: (M, d) float}.
    """
    codes, hidden = defaultdict(list), defaultdict(list)
    title = f"codes and hidden states of {Path(manifest_path).name}"
    deepest = None if sources else max(layers, default=0)
    for net_input in batches(manifest_path, sample_rate=model.speech_encoder.frontend.sample_rate, rows=rows, title=title):
        inputs = all_frames(model.speech_encoder, net_input, deepest)
        for name in sources:
            codes[name].append(noise_free_codes(model.targets[name](inputs)))
        for layer in layers:
            hidden[layer].append(inputs.hidden[layer][inputs.selected])
    return tuple({key: torch.cat(parts) for key, parts in found.items()} for found in (codes, hidden))


def phones_of(
    frontend, manifest_path, alignment: Alignment, phone_ids: Dict[str, int], rows: Optional[Sequence[int]] = None
) -> Tensor:
    """(M,) int64 phone of every encoder frame of a corpus, -1 for none; `phone_ids` grows by new phones."""
    step_seconds = frontend.step_samples / frontend.sample_rate
    lengths = frame_counts(frontend, manifest_path, rows)
    parts = [frame_phones(alignment.get(row, ()), count, step_seconds, phone_ids) for row, count in lengths.items()]
    return torch.cat(parts)


def frame_counts(frontend, manifest_path, rows: Optional[Sequence[int]] = None) -> Dict[int, int]:
    """Encoder frames of every row, in the manifest's order."""
    samples = AudioDataset(read_manifest(Path(manifest_path)), sample_rate=frontend.sample_rate).sizes.tolist()
    return {row: int(frontend.output_length(samples[row])) for row in (range(len(samples)) if rows is None else rows)}
