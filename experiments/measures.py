"""What a frozen encoder and its labels say about letters and speakers: one run of the testbed.

    python experiments/measures.py CHECKPOINT /data/mboshi measures.json [--labels runs/labels/letters_0.4/seed1/pretrain]

Per layer: accuracy of a linear letter probe and of a linear speaker probe over frames (fitted on `train`, tested on `test`),
ABX error on `test`; of the last layer, the letter error rate of a linear CTC on `test`. With `--on dev` all of it on `dev`, to
choose by, as `metrics_dev`; with `--on dev test` both. Per kind of labels: PNMI on `train`,
that of shuffled letters, perplexity, and the share of frames of `dev` whose letter a linear layer on the codes names, all
codebooks at once.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from abx import draw_triples, error_rate, find_tokens
from ladder_labels import SILENCE, letter_classes, letters_of
from linear_ctc import letter_error_rate
from torch.nn import functional as F

from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.data.frame_labels import LabelStore
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.measures.frames import collect
from fairseq_birq.measures.label_quality import phone_measures
from fairseq_birq.measures.linear_probe import linear_accuracy
from fairseq_birq.model import BirqModel
from fairseq_birq.objective.code_health import perplexity


def hidden_states(checkpoint, manifest):
    """[(K + 1, T, d) float32 per utterance]: layers 0 (what enters the first) to K, each utterance alone, unmasked."""
    import soundfile

    encoder, rows, found = load_encoder(checkpoint), read_manifest(manifest), []
    with torch.no_grad():
        for row in range(len(rows)):
            audio = torch.from_numpy(soundfile.read(rows.audio_path(row), dtype="float32")[0])[None]
            encoded = encoder(audio, torch.zeros_like(audio, dtype=torch.bool))
            found.append(torch.cat([encoded.subsampled, *encoded.layers]).numpy())
    return found


METRICS = ("letter_probe", "speaker_probe", "abx_within", "abx_across", "linear_ctc")


def measure_encoder(checkpoint, data, seed, skip=(), on="test"):
    """{metric: [value of layer 1, ..]}; `linear_ctc` has the last layer's alone. on: the split in the place of `test`"""
    classes, splits = letter_classes(data), {"train": "train", "test": on}
    states = {side: hidden_states(checkpoint, data / f"{split}.tsv") for side, split in splits.items()}
    letters = {side: letters_of(data, split, classes) for side, split in splits.items()}
    speakers = {side: (data / f"{split}.spk").read_text().split() for side, split in splits.items()}
    texts = {side: (data / f"{split}.ltr").read_text().splitlines() for side, split in splits.items()}
    tokens = find_tokens(letters["test"], speakers["test"], classes[SILENCE])
    triples = {name: draw_triples(tokens, across) for name, across in (("abx_within", False), ("abx_across", True))}
    found = {name: [] for name in METRICS}
    for layer in range(1, len(states["train"][0])):
        frames = {split: [utterance[layer] for utterance in states[split]] for split in states}
        if "letter_probe" not in skip:
            found["letter_probe"].append(probe(frames, letters, classes[SILENCE]))
        if "speaker_probe" not in skip:
            found["speaker_probe"].append(speaker_probe(frames, speakers, letters, classes[SILENCE]))
        for name in set(triples) - set(skip):
            found[name].append(error_rate(frames["test"], triples[name]))
    if "linear_ctc" not in skip:  # of the last layer, whose frames are still at hand
        sides = frames["train"], texts["train"], frames["test"], texts["test"]
        found["linear_ctc"].append(letter_error_rate(*sides, seed=seed))
    return {name: [round(value, 2) for value in values] for name, values in found.items() if values}


def probe(frames, letters, silence):
    """Per cent of `test`'s frames with a letter."""
    sides = []
    for split in ("train", "test"):
        y = torch.from_numpy(np.concatenate(letters[split]))
        sides += [torch.from_numpy(np.concatenate(frames[split])), torch.where(y == silence, -1, y)]
    return 100 * linear_accuracy(*sides)


def speaker_probe(frames, speakers, letters, silence):
    """Per cent of `test`'s frames with a letter whose speaker a linear layer names."""
    names, sides = sorted(set(speakers["train"])), {}
    for split in frames:
        y = [np.full(len(row), names.index(speaker)) for row, speaker in zip(letters[split], speakers[split])]
        sides[split] = [np.where(row == silence, -1, label) for row, label in zip(letters[split], y)]
    return probe(frames, sides, -1)


def measure_labels(checkpoint, data, folder=None):
    """{source: {pnmi, chance, perplexity, letter_accuracy}}; `folder` holds the labels that were learnt from files."""
    classes, model = letter_classes(data), BirqModel.from_checkpoint(checkpoint)
    sources = [name for name, source in model.targets.items() if source.active and name != "label_file"]
    codes = {split: collect(model, data / f"{split}.tsv", sources)[0] if sources else {} for split in ("train", "dev")}
    if folder:
        for split in codes:
            codes[split]["label_file"] = stored(folder, data, split)
    letters = {split: torch.from_numpy(np.concatenate(letters_of(data, split, classes))) for split in codes}
    return {
        name: label_quality({split: codes[split][name] for split in codes}, letters, classes[SILENCE]) for name in codes["dev"]
    }


def stored(folder, data, split):
    """(M, N) int64 of all frames of `train`, which is part of the pre-training split that `folder` is of, or of dev."""
    first = Path(folder)
    store = LabelStore(first if split == "train" else first.parent / split)
    of = read_manifest(data / f"{first.name if split == 'train' else split}.tsv")
    within = {of.name(row): row for row in range(len(of))}
    wanted = read_manifest(data / f"{split}.tsv")
    rows = [within[wanted.name(row)] for row in range(len(wanted))]
    return torch.cat([torch.from_numpy(store.codes(row, 0, store.num_frames(row))) for row in rows])


def label_quality(codes, letters, silence):
    """codes, letters: {"train", "dev"} of (M, N) and (M,) int64"""
    kept = {split: letters[split] != silence for split in letters}
    num_codes = int(max(part.max() for part in codes.values())) + 1
    found = phone_measures(codes["train"][kept["train"]], letters["train"][kept["train"]], num_codes)
    histograms = torch.stack([torch.bincount(column, minlength=num_codes) for column in codes["train"].t()])
    sides = []
    for split in ("train", "dev"):
        sides += [F.one_hot(codes[split][kept[split]], num_codes).flatten(1).float(), letters[split][kept[split]]]
    return {
        "pnmi": round(found["pnmi"], 4),
        "chance": round(found["pnmi_shuffled"], 4),
        "perplexity": round(float(perplexity(histograms).mean()), 1),
        "letter_accuracy": round(100 * linear_accuracy(*sides), 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, help="JSON")
    parser.add_argument("--labels", type=Path, help="labels of the pre-training split, where they came from files")
    parser.add_argument("--seed", type=int, default=1, help="of the linear CTC")
    parser.add_argument("--skip", nargs="*", choices=METRICS, default=[], help="metrics that nobody needs")
    parser.add_argument("--on", nargs="+", choices=("dev", "test"), default=["test"], help="what the encoder is measured on")
    parser.add_argument("--probe-only", action="store_true", help="the letter probe alone, and nothing about labels")
    args = parser.parse_args()
    start = time.monotonic()
    skip = METRICS[1:] if args.probe_only else args.skip
    names = {"test": "metrics", "dev": "metrics_dev"}
    found = {names[on]: measure_encoder(args.checkpoint, args.data, args.seed, skip, on) for on in args.on}
    if not args.probe_only:
        found["labels"] = measure_labels(args.checkpoint, args.data, args.labels)
    found["measure_seconds"] = round(time.monotonic() - start)
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
