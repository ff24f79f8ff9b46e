"""What fitted codes say about letters beside those of a random projection: a table of docs/what_is_a_label_worth.md.

    python experiments/codebooks.py /data/mboshi experiments/results/codebooks.json
    python experiments/codebooks.py /data/mboshi layers.json --checkpoint CHECKPOINT --layers 2

Perplexity and PNMI of all frames of `pretrain`, with the PNMI of shuffled letters beside it, mean and lowest to highest over
seeds. Codes are fitted to the same frames, without their letters. Every size and seed is a run of `birq-audit --fitted`; the
JSON keeps what is done, and the same command goes on.
"""

import argparse
import json
import statistics
from pathlib import Path

from fairseq_birq.tools.audit.audit import audit
from fairseq_birq.tools.audit.fitted import KINDS

MEASURES = {"perplexity": "perplexity", "pnmi": "pnmi", "shuffled": "pnmi_shuffled"}


def measured(data, split, size, seed, minutes, **of):
    """{"features, codes": {measure: value}} of one size "NxV" and seed."""
    codebooks, codes = size.split("x")
    settings = [f"model.quantizer.num_codebooks={codebooks}", f"model.quantizer.codebook_size={codes}"]
    options = dict(settings=settings, seeds=[seed], minutes=minutes, fitted=list(KINDS), **of)
    found = audit(data / f"{split}.tsv", data / f"{split}.phn", **options)
    rows = {}
    for candidate, measures in zip(found.candidates, found.measures):
        if candidate.series in KINDS:
            name = f"{candidate.place}, {candidate.series}"
        elif candidate.place == "utterance+frame" or candidate.series == "standardize+layer":  # the default of either
            name = f"{candidate.place if of else 'logmel'}, random projection"
        else:
            continue
        rows[name] = {ours: round(measures[seed][theirs], 4) for ours, theirs in MEASURES.items()}
    return rows


def spread(values, digits):
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def lines_of(found):
    """A Markdown table. found: {size: {seed: what `measured` gives}}"""
    lines = ["| codes of | codes | N × V | seeds | perplexity | PNMI | shuffled | above chance |", "| --- |" + " --- |" * 7]
    for size, seeds in found.items():
        for name in next(iter(seeds.values())):
            values = {measure: [rows[name][measure] for rows in seeds.values()] for measure in MEASURES}
            above = [pnmi - shuffled for pnmi, shuffled in zip(values["pnmi"], values["shuffled"])]
            cells = [*name.split(", "), size.replace("x", " × "), str(len(above)), spread(values["perplexity"], 0)]
            cells += [spread(values["pnmi"], 3), f"{statistics.mean(values['shuffled']):.3f}", f"{statistics.mean(above):.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the corpus: manifests and letter alignments")
    parser.add_argument("json", type=Path, help="what is measured, and is not measured again")
    parser.add_argument("--split", default="pretrain")
    parser.add_argument("--checkpoint", help="codes of its layers instead of the audio's")
    parser.add_argument("--layers", type=int, nargs="+", default=())
    parser.add_argument("--sizes", nargs="+", default=["1x100", "4x256"], help="N x V each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--minutes", type=float, default=100.0, help="of audio at most")
    args = parser.parse_args()
    of = {"checkpoint": args.checkpoint, "layers": args.layers} if args.checkpoint else {}
    found = json.loads(args.json.read_text()) if args.json.exists() else {}
    for size in args.sizes:
        for seed in args.seeds:
            if str(seed) not in found.setdefault(size, {}):
                found[size][str(seed)] = measured(args.data, args.split, size, seed, args.minutes, **of)
                args.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines_of(found)))


if __name__ == "__main__":
    main()
