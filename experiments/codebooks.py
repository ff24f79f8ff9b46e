"""What fitted codes say about letters beside those of a random projection: the table of docs/what_is_a_label_worth.md.

    python experiments/codebooks.py /data/mboshi --json experiments/results/codebooks.json
    python experiments/codebooks.py /data/mboshi --checkpoint CHECKPOINT --layers 2 --json layer2.json

Perplexity and PNMI of all frames of `pretrain`, with the PNMI of shuffled letters beside it, mean and lowest to highest over
seeds. Codes are fitted to the same frames, without their letters. It is `birq-audit --fitted` for several sizes.
"""

import argparse
import json
import statistics
from pathlib import Path

from fairseq_birq.tools.audit.audit import audit
from fairseq_birq.tools.audit.fitted import KINDS

SIZES = ("1x100", "4x256", "1x500")  # N x V


def rows_of(data, split, size, seeds, minutes, **of):
    """[{codes, size, perplexity, pnmi, shuffled}], each measure a list over seeds."""
    codebooks, codes = size.split("x")
    settings = [f"model.quantizer.num_codebooks={codebooks}", f"model.quantizer.codebook_size={codes}"]
    manifest, alignment = data / f"{split}.tsv", data / f"{split}.phn"
    found = audit(manifest, alignment, settings=settings, seeds=seeds, minutes=minutes, fitted=list(KINDS), **of)
    rows = []
    for candidate, measures in zip(found.candidates, found.measures):
        is_fitted = candidate.series in KINDS
        if is_fitted or candidate.place == "utterance+frame" or candidate.series == "standardize+layer":
            place = candidate.place if is_fitted or of else "logmel"
            row = {"features": place, "codes": candidate.series if is_fitted else "random projection", "size": size}
            for name, key in (("perplexity", "perplexity"), ("pnmi", "pnmi"), ("shuffled", "pnmi_shuffled")):
                row[name] = [round(measures[seed][key], 4) for seed in seeds]
            rows.append(row)
    return rows


def spread(values, digits):
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def lines_of(rows):
    lines = ["| codes of | codes | N × V | perplexity | PNMI | shuffled | above chance |", "| --- |" + " --- |" * 6]
    for row in rows:
        above = [pnmi - shuffled for pnmi, shuffled in zip(row["pnmi"], row["shuffled"])]
        cells = [row["features"], row["codes"], row["size"].replace("x", " × "), spread(row["perplexity"], 0)]
        cells += [spread(row["pnmi"], 3), f"{statistics.mean(row['shuffled']):.3f}", f"{statistics.mean(above):.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the corpus: manifests and letter alignments")
    parser.add_argument("--split", default="pretrain")
    parser.add_argument("--checkpoint", help="codes of its layers instead of the audio's")
    parser.add_argument("--layers", type=int, nargs="+", default=())
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="N x V each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--minutes", type=float, default=100.0, help="of audio at most")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    of = {"checkpoint": args.checkpoint, "layers": args.layers} if args.checkpoint else {}
    rows = []
    for size in args.sizes:
        rows += rows_of(args.data, args.split, size, args.seeds, args.minutes, **of)
    print("\n".join(lines_of(rows)))
    if args.json:
        args.json.write_text(json.dumps({"split": args.split, "seeds": args.seeds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
