"""What the codes of the raw input are worth, for each normalisation of the quantizer's input and several seeds.

    python benchmarks/codes.py --data /data/mboshi

Perplexity, share of the most frequent code and share of codes in use are over the split `pretrain`; PNMI is over the
frames of `dev` that carry a phone of `dev.limsi.phn`, with the PNMI of shuffled phones beside it: many codes on few
frames look informative by chance. Median (lowest to highest) over seeds. It also counts labels that change when an
utterance is padded in a batch.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import torch
from omegaconf import OmegaConf

from fairseq_birq.analysis.label_quality import frame_phones, joint_counts, label_quality
from fairseq_birq.builders import build_targets
from fairseq_birq.config import BirqConfig
from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.frontends import FRONTENDS
from fairseq_birq.metrics import perplexity, top_share, used_share
from fairseq_birq.targets.base import TargetInputs

NORMS = ("none", "utterance", "frame", "utterance+frame")


def batches(data, split, utterances):
    """Batches of `utterances` rows as the model sees them, in the manifest's order."""
    dataset = AudioDataset(read_manifest(data / f"{split}.tsv"))
    for start in range(0, len(dataset), utterances):
        yield dataset.collater([dataset[row] for row in range(start, min(start + utterances, len(dataset)))])["net_input"]


def target_inputs(frontend, net_input):
    waveform, padding_mask = net_input["waveform"].float(), net_input["padding_mask"]
    features = frontend.features(waveform, padding_mask)
    lengths = frontend.output_length((~padding_mask).sum(1))
    frame_padding = torch.arange(int(lengths.max())) >= lengths[:, None]
    return TargetInputs(waveform, padding_mask, features, frame_padding, ~frame_padding)


def source_of(norm, size, seed):
    settings = {"quantizer": {"codebook_size": size, "seed": seed}, "targets": {"raw_input": {"quantizer_norm": norm}}}
    cfg = OmegaConf.merge(OmegaConf.structured(BirqConfig), settings)
    return build_targets(cfg, FRONTENDS["logmel"](dim=8))["raw_input"]


def quantizer_vectors(frontend, data, split, norm):
    """All of a split's vectors, normalised: (M, 320)."""
    source = source_of(norm, 2, 1)
    return torch.cat([source.vectors(target_inputs(frontend, batch)) for batch in batches(data, split, 16)])


def phones_of(frontend, data, split):
    """(M,) int64 phone of every frame of a split, -1 for none, and the number of phones."""
    intervals = defaultdict(list)
    with open(data / f"{split}.limsi.phn", newline="") as file:
        for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row[0].isdigit():
                intervals[int(row[0])].append((float(row[2]), float(row[3]), row[4]))
    ids, phones = {}, []
    manifest = read_manifest(data / f"{split}.tsv")
    for index, samples in enumerate(manifest.num_samples.tolist()):
        frames = int(frontend.output_length(samples))
        phones.append(frame_phones(intervals[index], frames, 0.04, ids))
    return torch.cat(phones), len(ids)


def measure(norm, size, seed, vectors, dev_vectors, phones, num_phones):
    quantizer = source_of(norm, size, seed).quantizer
    histogram = torch.bincount(quantizer.nearest(vectors)[:, 0], minlength=size)
    codes, known = quantizer.nearest(dev_vectors)[:, 0], phones >= 0
    shuffled = phones[known][torch.randperm(int(known.sum()), generator=torch.Generator().manual_seed(seed))]
    pnmi, chance = (
        label_quality(joint_counts(labels, codes[known], num_phones, size))["pnmi"] for labels in (phones[known], shuffled)
    )
    return [float(perplexity(histogram)), float(top_share(histogram)), float(used_share(histogram)), pnmi, chance]


def changed_by_padding(frontend, data, size):
    """(labels that differ between an utterance alone and in a batch of 16, labels) over `dev`, with the default norm."""
    source, changed, total = source_of("utterance+frame", size, 1), 0, 0
    for batch in batches(data, "dev", 16):
        inputs = target_inputs(frontend, batch)
        together = source(inputs)
        alone = []
        for row, samples in enumerate((~batch["padding_mask"]).sum(1).tolist()):
            one = {key: batch[key][row : row + 1, :samples] for key in ("waveform", "padding_mask")}
            alone.append(source(target_inputs(frontend, one)))
        changed += int((together != torch.cat(alone)).sum())
        total += together.numel()
    return changed, total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 8192])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    args = parser.parse_args()
    frontend = FRONTENDS["logmel"](dim=8)
    phones, num_phones = phones_of(frontend, args.data, "dev")
    print("| V | quantizer_norm | perplexity | top code | codes used | PNMI | PNMI, phones shuffled |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for norm in NORMS:
        vectors, dev_vectors = (quantizer_vectors(frontend, args.data, split, norm) for split in ("pretrain", "dev"))
        for size in args.sizes:
            rows = torch.tensor([measure(norm, size, seed, vectors, dev_vectors, phones, num_phones) for seed in args.seeds])
            low, middle, high = rows.amin(0), rows.median(0).values, rows.amax(0)
            digits = (0, 2, 2, 2, 2)
            ranges = zip(middle.tolist(), low.tolist(), high.tolist(), digits)
            cells = [f"{m:.{d}f} ({a:.{d}f}–{b:.{d}f})" for m, a, b, d in ranges]
            print(f"| {size} | {norm} | " + " | ".join(cells) + " |", flush=True)
    changed, total = changed_by_padding(frontend, args.data, 8192)
    print(f"\nLabels that change when an utterance of dev is padded in a batch of 16, V = 8192: {changed} of {total}.")


if __name__ == "__main__":
    main()
