"""t-SNE of randomly projected features, by phone and by speaker (Latent-RQ, PMLR 312:78-93, 2026, section 5)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fairseq_birq.checkpoint import load, load_encoder, speech_encoder_of
from fairseq_birq.config import BirqConfig
from fairseq_birq.data.manifest import parallel_lines, read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_any_alignment
from fairseq_birq.measures.frames import all_frames, batches, frame_counts, phones_of, rows_of_minutes
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.targets import build_targets
from fairseq_birq.tools.pictures.drawing import COLOURS, MARKERS, picture, short_names

_CLASSES = 8  # as many colours and markers as there are
_PROJECTED_DIM = 16  # D of the published quantizers


@dataclass
class Space:
    """One kind of features, randomly projected."""

    title: str
    frames: Tensor  # (M, D) float, of unit length


@dataclass
class Labelled:
    """Points in the plane, each with the index of its name."""

    points: Tensor  # (P, 2)
    classes: Tensor  # (P,) int64


def spaces_of(checkpoints, manifest, rows, layers: Sequence[int], seed: int = 1) -> List[Space]:
    """Projections of the raw input as BEST-RQ quantizes it, and of layers of every checkpoint, standardised per dimension.

    checkpoints: paths; the raw input is seen through the frontend of the first
    """
    found: List[Space] = []
    for path, name in zip(checkpoints, short_names(checkpoints)):
        cfg, state = load(path)
        encoder = speech_encoder_of(cfg, state, path)
        wrong = [layer for layer in layers if not 0 <= layer <= encoder.encoder.num_layers]
        if wrong:
            raise UserError(f"--layers must be from 0 to {encoder.encoder.num_layers} for {path}, but has {wrong}")
        source = build_targets(BirqConfig(frontend=cfg.frontend), encoder.frontend)
        parts: Dict[int, List[Tensor]] = {layer: [] for layer in [-1, *layers]}  # -1: the raw input
        for net_input in batches(manifest, sample_rate=encoder.frontend.sample_rate, rows=rows, title=f"hidden states of {name}"):
            inputs = all_frames(encoder, net_input, max(layers))
            parts[-1].append(source["raw_input"].vectors(inputs))
            for layer in layers:
                parts[layer].append(inputs.gather(inputs.hidden[layer]))
        stage = f",\n{name}" if len(checkpoints) > 1 else ""
        if not found:
            found.append(Space("raw input", _projected(torch.cat(parts[-1]), [seed, 0])))
        for layer in layers:
            hidden = torch.cat(parts[layer])
            hidden = (hidden - hidden.mean(0)) / hidden.std(0).clamp(min=1e-5)
            found.append(Space(f"layer {layer}{stage}", _projected(F.layer_norm(hidden, hidden.shape[-1:]), [seed, layer + 1])))
    return found


def _projected(x, seed):
    quantizer = RandomProjectionQuantizer(x.shape[1], codebook_size=1, codebook_dim=_PROJECTED_DIM, seed=seed)
    return quantizer.project(x)[:, 0]


def draw_of_checkpoints(
    checkpoints, manifest, alignment, path, layers=(), speakers=None, tier="phones", points=100, minutes=20.0, seed=1
) -> None:
    """The picture of `draw` for a corpus.

    Args:
        layers: counted from 1, 0 = what enters the first; empty: 0, the middle one and the last of the first checkpoint.
        speakers: a file with one speaker per row of the manifest; None: the first folder of each path.
        points: frames of each phone.

    Raises:
        UserError: a file or a layer is wrong, or there is nothing to draw.
    """
    table, encoder = read_manifest(Path(manifest)), load_encoder(checkpoints[0])
    frontend, depth = encoder.frontend, encoder.encoder.num_layers
    rows = rows_of_minutes(manifest, minutes, frontend.sample_rate)
    names = [table.name(row).split("/")[0] for row in range(len(table))]
    if speakers is not None:
        names = parallel_lines(speakers, len(table))
    ids: Dict[str, int] = {}
    phones = phones_of(frontend, manifest, read_any_alignment(alignment, table, tier), ids, rows)
    spaces = spaces_of(checkpoints, manifest, rows, sorted(set(layers or (0, (depth + 1) // 2, depth))), seed)
    other = [space.title for space in spaces if len(space.frames) != len(phones)]
    if other:
        raise UserError(f"{manifest}: {other} have other frames than {checkpoints[0]}; compare checkpoints of one frame rate")
    counts = frame_counts(frontend, manifest, rows).values()
    utterances = torch.repeat_interleave(torch.tensor(list(counts)))
    draw(spaces, phones, sorted(ids, key=ids.get), utterances, [names[row] for row in rows], path, points, seed)


def draw(
    spaces: List[Space],
    phones: Tensor,
    phone_names: List[str],
    utterances: Tensor,
    speakers: List[str],
    path,
    points: int = 100,
    seed: int = 1,
) -> None:
    """Frames by phone in the first row, utterances (their temporal mean) by speaker in the second, a space per column.

    phones: (M,) int64, -1 for none; utterances: (M,) int64, the frame's utterance; speakers: of every utterance
    """
    chosen, common = _chosen_frames(phones, points, seed)
    known = sorted(set(speakers), key=lambda name: (-speakers.count(name), name))[:_CLASSES]
    rows = torch.tensor([row for row, name in enumerate(speakers) if name in known])
    classes = torch.tensor([known.index(speakers[row]) for row in rows])
    phone_classes = torch.tensor([common.index(int(phone)) for phone in phones[chosen]])
    by_phone = [Labelled(_tsne(space.frames[chosen], seed), phone_classes) for space in spaces]
    by_speaker = [Labelled(_tsne(_means(space.frames, utterances, len(speakers))[rows], seed), classes) for space in spaces]
    columns = len(spaces)
    with picture(path, height_cm=1.0 + 2 * 14.5 / max(2, columns)) as figure:
        upper, lower = figure.subplots(2, columns + 1, squeeze=False, width_ratios=[1.0] * columns + [0.3])
        _draw_row(upper, by_phone, [phone_names[index] for index in common], "phone")
        _draw_row(lower, by_speaker, known, "speaker")
        for axes, space in zip(upper, spaces):
            axes.set_title(space.title)


def _chosen_frames(phones, points, seed):
    """Up to `points` random frames of each of the most frequent phones: (P,) int64, and these phones."""
    counts = torch.bincount(phones[phones >= 0])
    if counts.numel() == 0:
        raise UserError("no frame carries a phone: the alignment has none for these utterances but silence")
    common = [int(phone) for phone in counts.sort(descending=True, stable=True).indices[:_CLASSES] if counts[phone] > 0]
    generator, chosen = torch.Generator().manual_seed(seed), []
    for phone in common:
        frames = (phones == phone).nonzero()[:, 0]
        chosen.append(frames[torch.randperm(len(frames), generator=generator)[:points]])
    return torch.cat(chosen), common


def _means(frames: Tensor, utterances: Tensor, count: int) -> Tensor:
    """Mean over the frames of each utterance. frames: (M, D), utterances: (M,) int64 -> (count, D); 0 where it has none."""
    total = torch.zeros(count, frames.shape[1], dtype=frames.dtype).index_add_(0, utterances, frames)
    return total / torch.bincount(utterances, minlength=count).clamp(min=1)[:, None]


def _tsne(x: Tensor, seed: int) -> Tensor:
    """(P, D) -> (P, 2). Raises UserError without scikit-learn, or for too few points."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise UserError("t-SNE needs scikit-learn: pip install 'fairseq_birq[plot]'") from None
    if len(x) < 8:
        raise UserError(f"{len(x)} points are too few for t-SNE: use more speech")
    perplexity = min(30.0, (len(x) - 1) / 3)
    return torch.from_numpy(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(x.double().numpy()))


def _draw_row(all_axes, clouds: List[Labelled], names: List[str], kind: str):
    """One cloud per axes, and the legend in the last ones."""
    for axes, cloud in zip(all_axes, clouds):
        for number, name in enumerate(names):
            of_class = cloud.points[cloud.classes == number]
            style = dict(color=COLOURS[number], marker=MARKERS[number], s=7, linewidths=0, alpha=0.8)
            axes.scatter(of_class[:, 0], of_class[:, 1], label=name, **style)
        axes.set(xticks=[], yticks=[], box_aspect=1)
        axes.spines[:].set(visible=True, color="0.7")
    handles, labels = all_axes[0].get_legend_handles_labels()
    all_axes[-1].axis("off")
    all_axes[-1].legend(handles, labels, title=kind, loc="center left", borderpad=0, handletextpad=0.1, markerscale=2)
