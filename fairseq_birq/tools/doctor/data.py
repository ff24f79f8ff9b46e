"""The manifests of a run: their lengths, and the audio of the first, the last and some random rows."""

import os
from collections import Counter
from pathlib import Path
from typing import List

import numpy as np

from fairseq_birq.data.audio import AudioError, read, read_header
from fairseq_birq.data.manifest import Manifest, rates_path, read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.tools.doctor.checks import Check, ok, problem, warning

READ_SECONDS = 60.0  # of a longer file, its beginning and its last sample


def check_data(cfg, num_rows: int = 200, seed: int = 1) -> List[Check]:
    """Checks of every split that training or validation reads."""
    checks = []
    for path in manifests_of(cfg):
        try:
            manifest = read_manifest(path)
        except UserError as error:
            checks.append(problem("data", str(error)))
        else:
            checks += check_audio(manifest, cfg.task, num_rows, seed) + check_lengths(manifest, cfg)
    return checks


def manifests_of(cfg) -> List[Path]:
    """Manifests of every split: of all corpora, or, where the data has shards, of all for training and the first for others."""
    found = []
    for split in splits_of(cfg):
        folders = [cfg.task.data]
        if getattr(cfg.task, "corpora", None):
            folders = [Path(cfg.task.data) / folder for folder in cfg.task.corpora.values()]
        elif "corpora" in cfg.task:
            shards = cfg.task.data.split(os.pathsep)
            folders = shards if split == cfg.dataset.train_subset else shards[:1]
        found += [Path(folder).absolute() / f"{split}.tsv" for folder in folders]
    return found


def splits_of(cfg) -> List[str]:
    """What a run loads: the training split, whose name fairseq takes as it is, and the validation splits."""
    valid = [] if cfg.dataset.disable_validation else cfg.dataset.valid_subset.split(",")
    return list(dict.fromkeys([cfg.dataset.train_subset, *valid]))


def sampled_rows(total: int, num_rows: int, seed: int) -> List[int]:
    """The first row, the last, and `num_rows` random ones, in their order."""
    random = np.random.default_rng(seed).choice(total, min(num_rows, total), replace=False)
    return sorted({0, total - 1, *random.tolist()})


def check_audio(manifest: Manifest, task_cfg, num_rows: int, seed: int) -> List[Check]:
    """Reads sampled rows; what is wrong is counted, with the first example of each kind."""
    rows = sampled_rows(len(manifest), num_rows, seed)
    faults, rates, example = Counter(), Counter(), {}
    for row in rows:
        try:
            rates[_read_row(manifest, row, task_cfg.sample_rate)] += 1
        except AudioError as error:
            kind = _kind(str(error))
            faults[kind] += 1
            example.setdefault(kind, str(error))
    checks = _judge_faults(manifest, task_cfg, faults, example, len(rows))
    return checks + _judge_rates(manifest, task_cfg.sample_rate, rates)


def check_lengths(manifest: Manifest, cfg) -> List[Check]:
    """Rows that training leaves out or cuts, by the manifest's lengths and the rate of its first readable file."""
    rate = _first_rate(manifest)
    if rate is None:
        return []
    seconds = manifest.num_samples / rate
    max_seconds, max_tokens = getattr(cfg.task, "max_seconds", None), cfg.dataset.max_tokens
    short = int((seconds < cfg.task.min_seconds).sum())
    cut = 0 if max_seconds is None else int((seconds > max_seconds).sum())
    kept = seconds if max_seconds is None else np.minimum(seconds, max_seconds)
    long = 0 if max_tokens is None else int((kept * cfg.task.sample_rate > max_tokens).sum())
    counted = [f"{short} shorter than {cfg.task.min_seconds} s"] * (short > 0) + [f"{cut} cut to {max_seconds} s"] * (cut > 0)
    counted += [f"{long} longer than dataset.max_tokens and left out"] * (long > 0)
    text = f"{manifest.path.name}: {len(seconds)} rows, {seconds.sum() / 3600:.2f} h"
    text = "; ".join([f"{text}, {seconds.min():.2f} to {seconds.max():.2f} s", *counted])
    if short == len(seconds) or long == len(seconds):
        return [problem("lengths", f"{text}; nothing is left: see task.min_seconds and dataset.max_tokens")]
    return [(warning if long else ok)("lengths", text)]


def _read_row(manifest, row, sample_rate):
    """The file's own rate, in Hz. Raises AudioError for anything that training would stumble over."""
    path, expected = manifest.audio_path(row), int(manifest.num_samples[row])
    info = read_header(path, check_samples=True)
    if info.num_samples != expected:
        raise AudioError(f"{path}: other length, {info.num_samples} samples where the manifest says {expected}")
    read(path, sample_rate, num_samples=int(READ_SECONDS * sample_rate))
    return info.sample_rate


def _kind(text):
    kinds = ("no such file", "is empty", "other length", "truncated", "not finite", "no samples", "channels cancel")
    return next((kind for kind in kinds if kind in text), "not readable")


def _judge_faults(manifest, task_cfg, faults, example, num_read):
    read_rows = f"{manifest.path.name}: {num_read} of {len(manifest)} rows read"
    if not faults:
        return [ok("audio", f"{read_rows}, all good")]
    bad = sum(faults.values())
    budget = 0.0 if str(task_cfg.on_bad_audio) == "error" else task_cfg.bad_audio_budget
    kinds = ", ".join(f"{count} {kind}" for kind, count in faults.most_common())
    text = f"{read_rows}, {bad} cannot be used ({kinds}), as {example[faults.most_common(1)[0][0]]}"
    if bad > budget * num_read:
        advice = f"make the manifest again with birq-manifest, or raise task.bad_audio_budget ({budget:g}) above their share"
        return [problem("audio", f"{text}{manifest.moved() or f'; {advice}'}")]
    return [warning("audio", f"{text}; training leaves them out")]


def _judge_rates(manifest, wanted, rates):
    if len(rates) > 1:
        found = ", ".join(f"{count} at {rate} Hz" for rate, count in rates.most_common())
        text = f"{manifest.path.name}: {found}; each is resampled to {wanted} Hz while training"
        if rates_path(manifest.path).is_file():
            return [ok("sample rate", text)]
        advice = "those that differ from the first are bad audio: make the manifest again with birq-manifest"
        return [problem("sample rate", f"{manifest.path.name}: {found}; {advice}")]
    if rates and wanted not in rates:
        return [ok("sample rate", f"{manifest.path.name}: {next(iter(rates))} Hz, resampled to {wanted} Hz while training")]
    return []


def _first_rate(manifest):
    for row in range(min(len(manifest), 10)):
        try:
            return read_header(manifest.audio_path(row)).sample_rate
        except AudioError:
            continue
    return None
