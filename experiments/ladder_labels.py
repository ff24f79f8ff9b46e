"""Letters of a forced alignment as frame labels, worsened until they say as much about phones as is asked.

    python experiments/ladder_labels.py /data/mboshi runs/labels/letters_0.4 pretrain dev --pnmi 0.4

Each split gets a folder that `label_file` targets read. Three ways to worsen them:

| --by | what |
| --- | --- |
| frame | a share of frames gets a letter drawn from all frames' letters: noise that no model can predict |
| token | the same for whole letters, first to last frame: wrong, but as smooth in time as the true ones |
| merge | letters are merged, the rarest first: less said, nothing wrong |

PNMI = I(letter; label) / H(letter) over frames that carry a letter (HuBERT, arXiv 2106.07447, section IV). The share of
frames that reaches the asked PNMI is solved for, not tuned: with noise the joint distribution is known in closed form.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

from fairseq_birq.data import frame_labels
from fairseq_birq.data.frame_labels import FrameGrid, LabelInfo
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.measures.alignment import read_alignment
from fairseq_birq.measures.label_quality import frame_phones

GRID = FrameGrid(sample_rate=16000, first_frame_samples=880, frame_step_samples=640)  # of the log-Mel frontend
SILENCE = "SIL"


def letters_of(data, split, classes):
    """[(frames,) int64 per utterance]: the letter at the middle of each frame, silence where the alignment has none.

    classes: {letter: label}, which must have them all; silence is the last label.
    """
    manifest, alignment = read_manifest(data / f"{split}.tsv"), read_alignment(data / f"{split}.phn")
    step_seconds = GRID.frame_step_samples / GRID.sample_rate
    found = []
    for row, samples in enumerate(manifest.num_samples.tolist()):
        letters = frame_phones(alignment.get(row, ()), GRID.frames(samples), step_seconds, classes).numpy()
        found.append(np.where(letters < 0, classes[SILENCE], letters))
    return found


def letter_classes(data, split="pretrain"):
    """{letter: label} of an alignment, sorted, and silence last."""
    letters = {phone for row in read_alignment(data / f"{split}.phn").values() for _, _, phone in row} - {SILENCE}
    return {**{letter: label for label, letter in enumerate(sorted(letters))}, SILENCE: len(letters)}


def pnmi(joint):
    """I(phone; label) / H(phone) of a joint distribution. joint: (phones, labels) float, of any sum"""
    joint = joint / joint.sum()
    phones, labels = joint.sum(1), joint.sum(0)

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    return (entropy(phones) + entropy(labels) - entropy(joint.ravel())) / entropy(phones)


def noise_share(shares, wanted):
    """Which share of labels must be replaced, so that PNMI over speech frames is `wanted`; by bisection.

    shares: (V,) float, how frequent each label is; the last is silence, which a replacement may draw, but which is no phone.
    """
    drawn = shares / shares.sum()
    speech = drawn[:-1]

    def reached(share):
        joint = share * np.outer(speech, drawn)
        joint[np.arange(len(speech)), np.arange(len(speech))] += (1 - share) * speech
        return pnmi(joint)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) > wanted else (low, middle)
    return (low + high) / 2


def tokens(letters):
    """(frames,) int64: the number of the run of equal labels that each frame is in."""
    return np.cumsum(np.r_[0, letters[1:] != letters[:-1]])


def replaced(letters, share, drawn, by, generator):
    """The letters of one utterance, a share of frames or tokens replaced by a draw. drawn: (V,) probabilities."""
    unit = np.arange(len(letters)) if by == "frame" else tokens(letters)
    count = int(unit[-1]) + 1 if len(unit) else 0
    hit = generator.random(count) < share
    draws = generator.choice(len(drawn), size=count, p=drawn)
    return np.where(hit[unit], draws[unit], letters)


def merged(shares, wanted):
    """(V,) int64: a label for each letter, letters merged pair by pair until PNMI is `wanted` or just below.

    Each step merges the two rarest groups; silence stays alone.
    """
    speech = shares[:-1] / shares[:-1].sum()
    groups = [[letter] for letter in range(len(speech))]

    def information(parts):
        return pnmi(np.array([[share * (letter in part) for part in parts] for letter, share in enumerate(speech)]))

    while len(groups) > 1 and information(groups) > wanted:
        groups.sort(key=lambda part: speech[part].sum())
        first, second, *others = groups
        groups = [first + second, *others]
    labels = np.full(len(shares), len(groups), dtype=np.int64)
    for label, part in enumerate(groups):
        labels[part] = label
    return labels


def write(folder, manifest, codes, num_codes, source):
    """One shard with the labels of a split. codes: [(frames,) int64 per utterance]"""
    info = LabelInfo(
        manifest_sha256=manifest.fingerprint(),
        num_utterances=len(manifest),
        **vars(GRID),
        num_codebooks=1,
        codebook_size=num_codes,
        source=source,
        fingerprint=hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest(),
        command="python experiments/ladder_labels.py",
    )
    frame_labels.begin(folder, info)
    frame_labels.write_shard(folder, info, 0, [utterance[:, None] for utterance in codes])


def make(data, out, splits, wanted=1.0, by="frame", seed=1):
    """Write the labels of all splits; return what was done."""
    classes = letter_classes(data)
    counts = np.bincount(np.concatenate(letters_of(data, splits[0], classes)), minlength=len(classes)).astype(float)
    share = noise_share(counts, wanted) if by != "merge" and wanted < 1 else 0.0
    names = merged(counts, wanted) if by == "merge" else np.arange(len(classes))
    source = {"letters": by, "pnmi_thousandths": round(1000 * wanted), "seed": seed}
    for number, split in enumerate(splits):
        generator = np.random.default_rng([seed, number])
        codes = [replaced(u, share, counts / counts.sum(), by, generator) for u in letters_of(data, split, classes)]
        write(out / split, read_manifest(data / f"{split}.tsv"), [names[u] for u in codes], len(classes), source)
    return {"share_replaced": share, "labels": int(names.max()) + 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("splits", nargs="+", help="the first one settles which letters there are")
    parser.add_argument("--pnmi", type=float, default=1.0, help="above which nothing is replaced")
    parser.add_argument("--by", choices=("frame", "token", "merge"), default="frame")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(json.dumps(make(args.data.resolve(), args.out.resolve(), args.splits, args.pnmi, args.by, args.seed)))


if __name__ == "__main__":
    main()
