"""What random-projection codes of a corpus would be like, before anything is trained on them, as `birq-audit` tells.

A candidate is one way to make the quantizer's input: a normalisation of the raw input, or a layer of an encoder with one
of its normalisations. Each is quantized with several seeds, in one pass over the audio. Fitted codes take passes before it.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Dict, List, Optional, Sequence

import torch
from torch import Tensor, nn

from fairseq_birq.builders import build_frontend, build_quantizer
from fairseq_birq.checkpoint import load, speech_encoder_of
from fairseq_birq.config import BirqConfig
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import Alignment, read_any_alignment
from fairseq_birq.measures.frames import all_frames, batches, rows_of_minutes
from fairseq_birq.measures.label_quality import code_measures, frame_phones, phone_measures
from fairseq_birq.progress import progress
from fairseq_birq.settings import merged, with_setting
from fairseq_birq.targets import build_targets
from fairseq_birq.targets.normalisation import MODES, HiddenNormalisation
from fairseq_birq.tools.audit.candidates import Candidate
from fairseq_birq.tools.audit.fitted import fitted_candidates

RAW_NORMS = ("none", "utterance", "frame", "utterance+frame")
LAYER_NORMS = MODES


@dataclass
class Audit:
    """Measures of all candidates."""

    candidates: List[Candidate]
    measures: List[Dict[int, Dict[str, float]]]  # per candidate: seed -> name -> value
    histograms: List[Tensor]  # per candidate, of its first seed: (N, V), how often each code occurred
    minutes: float  # of audio that was listened to
    utterances: int
    bad_audio: int  # utterances that were asked for and could not be read
    phone_share: Optional[float]  # of the frames that carry a phone; None without an alignment
    codebook_size: int


def audit(
    manifest,
    alignment=None,
    tier: str = "phones",
    settings: Sequence[str] = (),
    checkpoint=None,
    layers: Sequence[int] = (),
    seeds: Sequence[int] = (1, 2, 3),
    minutes: float = 60.0,
    fitted: Sequence[str] = (),
) -> Audit:
    """Measure the candidates of a corpus: normalisations of the raw input, or layers of a checkpoint's encoder.

    Args:
        alignment: see `read_any_alignment`; with it there are measures against phones.
        settings: of the model, as in a training command: `model.quantizer.codebook_size=256`.
        layers: of the checkpoint's encoder, counted from 1; 0 = what enters the first; empty: 1 to the last.
        seeds: of the quantizers.
        minutes: of audio at most, of utterances spread evenly over the manifest.
        fitted: kinds of codes that are fitted to the corpus, beside the random ones: see `fitted.KINDS`.

    Raises:
        UserError: a file or a setting is wrong.
    """
    trained = None if checkpoint is None else load(checkpoint)
    cfg = _configured(settings, trained)
    if layers and trained is None:
        raise UserError("--layers needs --checkpoint")
    if trained is None:
        encoder = SimpleNamespace(frontend=build_frontend(cfg.frontend, 8))
    else:
        encoder = speech_encoder_of(*trained, checkpoint)
    reference = None if alignment is None else read_any_alignment(alignment, read_manifest(Path(manifest)), tier)
    rows = rows_of_minutes(manifest, minutes, encoder.frontend.sample_rate)
    deepest = 0
    if checkpoint is None:
        candidates = _raw_candidates(cfg, encoder.frontend, seeds)
    else:
        layers = _checked_layers(layers, encoder.encoder.num_layers)
        deepest = max(layers)
        norms = _settled(encoder, layers, lambda title: _inputs(encoder, deepest, manifest, rows, title))
        candidates = _layer_candidates(cfg, encoder, norms, seeds)

    def passes():
        return (batch for _, batch in _inputs(encoder, deepest, manifest, rows, "fit"))

    candidates += fitted_candidates(cfg, encoder, layers, fitted, seeds, passes)
    return _measure(candidates, _inputs(encoder, deepest, manifest, rows, "codes"), encoder.frontend, reference, len(rows))


def _configured(settings, trained) -> BirqConfig:
    """A `BirqConfig` with `model.<key>=<value>` settings; the quantizer's are a checkpoint's where it has some."""
    cfg, known = BirqConfig(), ["model.quantizer."]
    if trained is None:
        known.append("model.frontend.")
    else:
        cfg.quantizer = getattr(trained[0], "quantizer", cfg.quantizer)
    for setting in settings:
        key, _, value = setting.partition("=")
        if not key.startswith(tuple(known)) or not value:
            raise UserError(f"{setting!r}: settings here are {' or '.join(f'{key}KEY=VALUE' for key in known)}")
        try:
            cfg = with_setting(cfg, key[len("model.") :], value)
        except UserError as error:
            raise UserError(f"{setting!r}: {error}") from None
    return cfg


def _checked_layers(layers, num_layers):
    wrong = [layer for layer in layers if not 0 <= layer <= num_layers]
    if wrong:
        raise UserError(f"--layers must be from 1 to {num_layers}, or 0 for what enters the first, but has {wrong}")
    return sorted(set(layers)) or list(range(1, num_layers + 1))


def _raw_candidates(cfg, frontend, seeds) -> List[Candidate]:
    found = []
    for norm in RAW_NORMS:
        source = build_targets(merged(cfg, {"targets": {"raw_input": {"quantizer_norm": norm}}}), frontend)["raw_input"]
        dim = source.quantizer.projection.shape[1]
        quantizers = {seed: build_quantizer(cfg.quantizer, dim, cfg.block_mb, seed=seed) for seed in seeds}
        config = f"model.targets.raw_input.quantizer_norm={norm}"
        found.append(Candidate("raw input", norm, config, source.vectors, quantizers, "model.quantizer.seed"))
    return found


def _layer_candidates(cfg, encoder, norms: Dict[int, nn.ModuleDict], seeds) -> List[Candidate]:
    found = []
    for mode in LAYER_NORMS:
        for layer, of_layer in norms.items():
            quantizers = {seed: build_quantizer(cfg.quantizer, encoder.dim, cfg.block_mb, seed=[seed, layer]) for seed in seeds}
            config = f"model.targets.own_layer.layers=[{layer}] model.targets.own_layer.normalisation={mode}"
            found.append(Candidate(mode, f"layer {layer}", config, _vectors_of(layer, of_layer[mode]), quantizers))
    return found


def _vectors_of(layer, norm):
    return lambda inputs: norm(inputs.gather(inputs.hidden[layer]))


def _settled(encoder, layers, inputs) -> Dict[int, nn.ModuleDict]:
    """Normalisations of every layer with their statistics over all batches, which weigh equally."""
    norms = {
        layer: nn.ModuleDict({mode: HiddenNormalisation(encoder.dim, mode, momentum=0.0) for mode in LAYER_NORMS})
        for layer in layers
    }
    for _, batch in inputs("statistics of the layers"):
        for layer, of_layer in norms.items():
            frames = batch.gather(batch.hidden[layer])
            for norm in of_layer.values():
                norm.update(frames)
    return norms


def _inputs(encoder, deepest, manifest, rows, title):
    """(row numbers, all frames) of every batch, under a progress bar."""
    with progress(total=len(rows), title=title, unit="utterances") as bar:
        for net_input in batches(manifest, 16, encoder.frontend.sample_rate, rows, on_bad_audio="skip"):
            ids = net_input["ids"].tolist()
            if ids:
                yield ids, all_frames(encoder, net_input, deepest)
            bar.update(min(16, bar.total - bar.n))


@torch.no_grad()
def _measure(candidates, inputs, frontend, reference: Optional[Alignment], wanted) -> Audit:
    codes = [{seed: [] for seed in candidate.quantizers} for candidate in candidates]
    is_first, phones, phone_ids, seen, samples = [], [], {}, 0, 0
    step_seconds = frontend.step_samples / frontend.sample_rate
    for ids, batch in inputs:
        lengths = (~batch.frame_padding_mask).sum(1).tolist()
        seen, samples = seen + len(ids), samples + int((~batch.padding_mask).sum())
        for candidate, found in zip(candidates, codes):
            vectors = candidate.vectors(batch)
            for seed, quantizer in candidate.quantizers.items():
                found[seed].append(quantizer.nearest(vectors).to(torch.int32))
        is_first.append(torch.cat([torch.arange(length) == 0 for length in lengths]))
        if reference is not None:
            parts = zip(ids, lengths)
            phones += [frame_phones(reference.get(row, ()), length, step_seconds, phone_ids) for row, length in parts]
    is_first = torch.cat(is_first) if is_first else torch.zeros(0, dtype=torch.bool)
    if len(is_first) < 2:
        raise UserError(f"{len(is_first)} frames are too few to measure anything; use more or longer utterances")
    known = None if reference is None else torch.cat(phones)
    if known is not None and not (known >= 0).any():
        raise UserError("no frame carries a phone: the alignment has none for these utterances but silence")
    return _summary(candidates, codes, is_first, known, 1 / step_seconds, dict(
        minutes=samples / frontend.sample_rate / 60, utterances=seen, bad_audio=wanted - seen
    ))  # fmt: skip


def _summary(candidates, codes, is_first, phones, frames_per_second, counts) -> Audit:
    measures, histograms = [], []
    for candidate, by_seed in zip(candidates, codes):
        found = {}
        for seed, parts in by_seed.items():
            joined, size = torch.cat(parts).long(), candidate.quantizers[seed].codebook_size
            found[seed] = code_measures(joined, is_first, size, frames_per_second)
            if phones is not None:
                found[seed].update(phone_measures(joined[phones >= 0], phones[phones >= 0], size, seed))
            if len(found) == 1:
                histograms.append(torch.stack([torch.bincount(column, minlength=size) for column in joined.t()]))
        measures.append(found)
    share = None if phones is None else float((phones >= 0).double().mean())
    return Audit(candidates, measures, histograms, phone_share=share, codebook_size=histograms[0].shape[1], **counts)
