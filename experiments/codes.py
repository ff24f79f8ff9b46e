"""What the codes of the raw input are worth, for each normalisation of the quantizer's input and several seeds.

    python experiments/codes.py --data /data/mboshi

Perplexity, share of the most frequent code and share of codes in use are over the split `pretrain`; PNMI is over the
frames of `dev` that carry a phone of `dev.limsi.phn`, with the PNMI of shuffled phones beside it: many codes on few
frames look informative by chance. Median (lowest to highest) over seeds. It also counts labels that change when an
utterance is padded in a batch.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch

from fairseq_birq.config import BirqConfig
from fairseq_birq.frontends import FRONTENDS
from fairseq_birq.measures.alignment import read_alignment
from fairseq_birq.measures.frames import all_frames, batches, phones_of
from fairseq_birq.measures.label_quality import phone_measures
from fairseq_birq.objective.code_health import perplexity, top_share, used_share
from fairseq_birq.settings import from_dict
from fairseq_birq.targets import build_targets
from fairseq_birq.tools.audit.audit import RAW_NORMS


def source_of(norm, size, seed):
    settings = {"quantizer": {"codebook_size": size, "seed": seed}, "targets": {"raw_input": {"quantizer_norm": norm}}}
    cfg = from_dict(BirqConfig, settings)
    return build_targets(cfg, FRONTENDS["logmel"](dim=8))["raw_input"]


def quantizer_vectors(encoder, data, split, norm):
    """All of a split's vectors, normalised: (M, 320)."""
    source = source_of(norm, 2, 1)
    return torch.cat([source.vectors(all_frames(encoder, batch, num_layers=0)) for batch in batches(data / f"{split}.tsv")])


def measure(norm, size, seed, vectors, dev_vectors, phones):
    quantizer = source_of(norm, size, seed).quantizer
    histogram = torch.bincount(quantizer.nearest(vectors)[:, 0], minlength=size)
    known = phones >= 0
    found = phone_measures(quantizer.nearest(dev_vectors)[known], phones[known], size, seed)
    ours = [perplexity(histogram), top_share(histogram), used_share(histogram), found["pnmi"], found["pnmi_shuffled"]]
    return [float(value) for value in ours]


def changed_by_padding(encoder, data, size):
    """(labels that differ between an utterance alone and in a batch of 16, labels) over `dev`, with the default norm."""
    source, changed, total = source_of("utterance+frame", size, 1), 0, 0
    for batch in batches(data / "dev.tsv"):
        together = source(all_frames(encoder, batch, num_layers=0))
        alone = []
        for row, samples in enumerate((~batch["padding_mask"]).sum(1).tolist()):
            one = {key: batch[key][row : row + 1, :samples] for key in ("waveform", "padding_mask")}
            alone.append(source(all_frames(encoder, one, num_layers=0)))
        changed += int((together != torch.cat(alone)).sum())
        total += together.numel()
    return changed, total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 8192])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    args = parser.parse_args()
    encoder = SimpleNamespace(frontend=FRONTENDS["logmel"](dim=8))
    phones = phones_of(encoder.frontend, args.data / "dev.tsv", read_alignment(args.data / "dev.limsi.phn"), {})
    print("| V | quantizer_norm | perplexity | top code | codes used | PNMI | PNMI, phones shuffled |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for norm in RAW_NORMS:
        vectors, dev_vectors = (quantizer_vectors(encoder, args.data, split, norm) for split in ("pretrain", "dev"))
        for size in args.sizes:
            rows = torch.tensor([measure(norm, size, seed, vectors, dev_vectors, phones) for seed in args.seeds])
            low, middle, high = rows.amin(0), rows.median(0).values, rows.amax(0)
            digits = (0, 2, 2, 2, 2)
            ranges = zip(middle.tolist(), low.tolist(), high.tolist(), digits)
            cells = [f"{m:.{d}f} ({a:.{d}f}–{b:.{d}f})" for m, a, b, d in ranges]
            print(f"| {size} | {norm} | " + " | ".join(cells) + " |", flush=True)
    changed, total = changed_by_padding(encoder, args.data, 8192)
    print(f"\nLabels that change when an utterance of dev is padded in a batch of 16, V = 8192: {changed} of {total}.")


if __name__ == "__main__":
    main()
