"""Has a run of the testbed any more to learn, and when does its encoder say more about letters than its labels do?

    python experiments/saturation.py runs/who_wins/pretrain/best_rq_10000/seed1 --data /data/mboshi --json curve.json

For every kept checkpoint (`checkpoint.keep_interval_updates=-1`) and every layer: the metrics of `measures.py` on `dev` and
`test`, and PNMI above chance on `train` of two kinds of codes that could be the next labels: 100 clusters of k-means, and
4 x 256 random codes as BiRQ and Latent-RQ make them. Codes are fitted to the frames of `train`, without their letters. What
was measured is not measured again. A Markdown table of the best layers is printed.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
from ladder_labels import SILENCE, letter_classes, letters_of
from measures import hidden_states, measure_encoder

from fairseq_birq.measures.label_quality import phone_measures
from fairseq_birq.objective.fitted_quantizer import FittedQuantizer
from fairseq_birq.objective.fitting import CodebookSettings, fit
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.targets.normalisation import HiddenNormalisation

METRICS = {"letter_probe": max, "abx_within": min}  # and which layer is the best one


def kept_checkpoints(folder):
    """{update: path}, growing; of an unfinished run those that it has."""
    names = {path: re.fullmatch(r"checkpoint_\d+_(\d+)\.pt", path.name) for path in folder.glob("checkpoint_*_*.pt")}
    return dict(sorted((int(name.group(1)), path) for path, name in names.items() if name))


def clusters_of(frames, seed):
    """(M, d) -> (M, 1) int64: 100 clusters."""
    quantizer: FittedQuantizer = fit(CodebookSettings(codebook_size=100, seed=seed), frames.shape[1], lambda: [frames])
    return quantizer.nearest(frames)


def random_codes_of(frames, seed):
    """(M, d) -> (M, 4) int64: codes of a random projection, hidden states normalised as by default."""
    normalisation = HiddenNormalisation(frames.shape[1], "standardize+layer")
    normalisation.settle([frames])
    return RandomProjectionQuantizer(frames.shape[1], 256, 16, 4, seed=seed).nearest(normalisation(frames))


def code_quality(states, letters, seed):
    """{kind of codes: [PNMI above chance of layers 0, 1, ..]}. states: [(K + 1, T, d) per utterance]; letters: (M,) -1 = none"""
    found = {"clusters": [], "random": []}
    for layer in range(len(states[0])):
        frames = torch.from_numpy(np.concatenate([utterance[layer] for utterance in states]))
        for kind, codes in (("clusters", clusters_of(frames, seed)), ("random", random_codes_of(frames, seed))):
            kept = letters >= 0
            quality = phone_measures(codes[kept], letters[kept], int(codes.max()) + 1)
            found[kind].append(round(quality["pnmi"] - quality["pnmi_shuffled"], 4))
    return found


def measure(checkpoint, data, seed):
    """What one checkpoint is worth: metrics on `dev` and `test` per layer from 1, PNMI of codes per layer from 0."""
    classes = letter_classes(data)
    letters = torch.from_numpy(np.concatenate(letters_of(data, "train", classes)))
    letters = torch.where(letters == classes[SILENCE], -1, letters)
    skip = ("speaker_probe", "linear_ctc", "abx_across")
    metrics = {split: measure_encoder(checkpoint, data, seed, skip, split) for split in ("dev", "test")}
    return {**metrics, "pnmi": code_quality(hidden_states(checkpoint, data / "train.tsv"), letters, seed)}


def lines_of(found):
    """Of the layer that is best on `dev`. found: {update: what `measure` gives}, in any order"""
    head = [f"{title}, {split}" for title in ("letter probe", "ABX") for split in ("dev", "test")]
    lines = [f"| updates | {' | '.join(head)} | PNMI of clusters of layers 0 to K | of random codes of layers 0 to K |"]
    lines.append("| --- |" + " --- |" * (len(head) + 2))
    for update, row in sorted(found.items(), key=lambda item: int(item[0])):
        cells = []
        for metric, best in METRICS.items():
            layer = row["dev"][metric].index(best(row["dev"][metric]))
            cells += [f"{row[split][metric][layer]:.1f}" for split in ("dev", "test")]
        cells += [", ".join(f"{value:.2f}" for value in row["pnmi"][kind]) for kind in ("clusters", "random")]
        lines.append(f"| {update} | {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with its checkpoints")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpus: manifests, letters, alignments")
    parser.add_argument("--json", type=Path, required=True, help="gets the numbers")
    parser.add_argument("--seed", type=int, default=1, help="of the codes")
    parser.add_argument("--updates", type=int, nargs="+", help="only the checkpoints of these")
    args = parser.parse_args()
    found = json.loads(args.json.read_text()) if args.json.exists() else {}
    for update, path in kept_checkpoints(args.run).items():
        if str(update) not in found and update in (args.updates or [update]):
            found[str(update)] = measure(path, args.data.resolve(), args.seed)
            args.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines_of(found)))


if __name__ == "__main__":
    main()
