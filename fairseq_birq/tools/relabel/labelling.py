"""Labels of a whole corpus for staged relabelling (HuBERT, Hsu et al. 2021, arXiv 2106.07447), as `birq-labels` makes them.

Every utterance runs whole, alone and in eval mode, so that its labels depend on neither batch nor shard.
"""

import hashlib
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Iterable, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from fairseq_birq.checkpoint import checkpoint_files
from fairseq_birq.data import frame_labels
from fairseq_birq.data.dataset import AudioDataset, raise_user_error
from fairseq_birq.data.files import file_sha256
from fairseq_birq.data.frame_labels import FrameGrid, LabelInfo
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.objective.code_health import perplexity
from fairseq_birq.progress import progress
from fairseq_birq.tools.relabel.fitted import FittedCodes
from fairseq_birq.tools.relabel.label_sources import Codes, Labeller, LayerCodes, SourceCodes, build_labeller, settle_quantizer

_QUANTIZER = "quantizer.pt"


def make(
    checkpoint,
    manifest,
    out,
    codes: Optional[Codes] = None,
    like=None,
    shard: str = "0/1",
    device: Optional[str] = None,
    workers: int = 0,
    bad_audio_budget: float = 0.01,
) -> List[str]:
    """Write one shard of the labels of a manifest, unless it is there; a shard's codes are in memory until it is whole.

    Args:
        checkpoint: of model `birq` or, for `LayerCodes` and `FittedCodes`, `birq_ctc`; None where codes are of audio alone.
        out: the folder of the labels.
        codes: what the labels are.
        like: a folder of labels instead, of another manifest: the same codes of the same checkpoint.
        shard: "i/n", i counted from 0.
        device: torch's name of it; None: the GPU if there is one.
        workers: processes that read audio.
        bad_audio_budget: share of a shard's rows that may be bad before it is an error.

    Returns:
        Lines that say what was done.

    Raises:
        UserError: a file, a folder or a setting is wrong.
    """
    (number, count), out = _parse_shard(shard), Path(out)
    sha256, device = _checkpoint_sha256(checkpoint), device or ("cuda" if torch.cuda.is_available() else "cpu")
    codes = codes if like is None else _codes_of(like, sha256)
    labeller = build_labeller(checkpoint, codes).to(device)
    corpus = read_manifest(Path(manifest))
    reading = dict(manifest=corpus, sample_rate=labeller.speech_encoder.frontend.sample_rate)
    if not isinstance(codes, SourceCodes):
        dataset = AudioDataset(**reading, bad_audio_budget=bad_audio_budget)
        rows, title = _settling_rows(len(dataset), codes)

        def audio():
            return (net_input for net_input in _utterances(dataset, rows, device, workers, title) if net_input)

        settled = Path(like) / _QUANTIZER if like else None
        settle_quantizer(labeller, {**asdict(codes), "checkpoint_sha256": sha256}, out / _QUANTIZER, audio, settled)
        labeller.to(device)
    info = _describe(labeller, corpus, codes, device)
    info = replace(info, checkpoint_sha256=sha256, num_shards=count, command=_command(checkpoint, manifest, out, codes, like))
    frame_labels.begin(out, info)
    title = f"{out}: shard {number}/{count}"
    if frame_labels.is_complete(out, number, count):
        return [f"{title} is there already"]
    rows = frame_labels.shard_rows(len(corpus), number, count)
    dataset = AudioDataset(**reading, bad_audio_budget=bad_audio_budget * len(rows) / max(1, len(corpus)))
    found = _label(labeller, info, _utterances(dataset, rows, device, workers, "label"))
    frame_labels.write_shard(out, info, number, found)
    return [f"{title}: {len(rows)} utterances, {sum(map(len, found))} frames", _variety(found, info)]


def _describe(labeller: Labeller, manifest, codes, device) -> LabelInfo:
    return LabelInfo(
        manifest_sha256=manifest.fingerprint(),
        num_utterances=len(manifest),
        **vars(FrameGrid.of(labeller.speech_encoder.frontend)),
        num_codebooks=labeller.num_columns(device),
        codebook_size=labeller.codebook_size,
        source=asdict(codes),
        fingerprint=labeller.fingerprint(),
    )


def _label(labeller: Labeller, info, net_inputs) -> List[np.ndarray]:
    """(frames, N) per utterance; none where its audio was bad."""
    nothing = np.zeros((0, info.num_codebooks), info.dtype)
    return [labeller.codes(x).cpu().numpy().astype(info.dtype) if x else nothing for x in net_inputs]


def _utterances(dataset, rows: Sequence[int], device, workers, title) -> Iterable[Optional[dict]]:
    """The model's input of one row after the other, under a progress bar; None where the audio is bad.

    Raises:
        UserError: too much audio is bad.
    """
    loader = DataLoader(dataset, batch_size=1, sampler=list(rows), collate_fn=dataset.collater, num_workers=workers)
    for batch in progress(loader, title=title, unit="utterances"):
        raise_user_error(batch)
        good = {key: value.to(device) for key, value in batch["net_input"].items()}
        yield good if len(batch["id"]) else None


def _settling_rows(length, codes) -> Tuple[List[int], str]:
    """Rows that set what is fitted, and what their progress is called; mini-batches of k-means want a random order."""
    if not isinstance(codes, FittedCodes):
        return _spread_rows(length, codes.statistics_utterances), "statistics"
    rows = _spread_rows(length, codes.fit_utterances)
    return np.random.RandomState(codes.seed).permutation(rows).tolist(), "fit"


def _spread_rows(length, at_most) -> List[int]:
    return np.unique(np.linspace(0, length - 1, max(1, min(length, at_most))).astype(int)).tolist()


def _variety(codes: Sequence[np.ndarray], info) -> str:
    joined = np.concatenate([np.zeros((0, info.num_codebooks), np.int64), *codes])
    histograms = np.stack([np.bincount(column, minlength=info.codebook_size) for column in joined.T])
    measured = ", ".join(f"{value:.1f}" for value in perplexity(torch.from_numpy(histograms)).tolist())
    return f"perplexity of the codes: {measured} of {info.codebook_size}"


def _codes_of(folder, sha256) -> Codes:
    info = frame_labels.read_info(folder)
    if info.checkpoint_sha256 != sha256:
        raise UserError(f"{folder}: its labels were made with another checkpoint; name that one, or choose --layer or --source")
    kind = FittedCodes if "features" in info.source else LayerCodes if "layer" in info.source else SourceCodes
    try:
        return kind(**info.source)
    except TypeError as error:
        raise UserError(f"{folder}/labels.json: its `source` is not what birq-labels writes ({error})") from None


def _command(checkpoint, manifest, out, codes, like) -> str:
    parts = ["birq-labels", *([] if checkpoint is None else [checkpoint]), manifest, out]
    if like is None and isinstance(codes, FittedCodes):
        parts += codes.options()
    elif like is not None:
        parts += ["--like", like]
    elif isinstance(codes, SourceCodes):
        parts += ["--source", codes.name]
    else:
        parts += [part for key, value in asdict(codes).items() for part in (f"--{key.replace('_', '-')}", value)]
    return shlex.join(map(str, parts))


def _parse_shard(text) -> Tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise UserError(f"--shard must be i/n with i from 0 to n - 1, as in 0/4, but is {text}")
    return int(number), int(count)


def _checkpoint_sha256(path) -> str:
    """Empty for labels of audio alone."""
    if path is None:
        return ""
    sums = [file_sha256(file) for file in checkpoint_files(path)]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
