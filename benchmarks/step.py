"""One training step's time and memory: 8 x 10 s of audio, 4 layers x 256, feed-forward 1024, V = 8192.

    python benchmarks/step.py                     fairseq's HuBERT needs 11 GB and 20 s a step
    python benchmarks/step.py --no-hubert
    python benchmarks/step.py --only Conformer    some rows; three minutes
    python benchmarks/step.py --only SpeechBrain "BEST-RQ, Conformer"

Forward and backward of whole steps and of their parts; times in turns, memory in a process each. With one thread
(OMP_NUM_THREADS=1) times are the process's own, which other processes disturb little; else the wall's. Ours and HuBERT have
the same fairseq Transformer; HuBERT has its default CNN, 500 classes and its default masking. SpeechBrain's BEST-RQ has its own
Conformer of the same sizes, V and share of masked frames (benchmarks/peers.py), where SpeechBrain is installed.

Latent-RQ's rows, with BEST-RQ beside them, have the 17 layers of examples/latent_rq/librispeech_base.yaml, their 6 target
layers of the first 11, and N = 18; d, feed-forward, V and the width of heads are a quarter, so that heads and encoder keep
their proportion. Their target for memory adds weights and gradients to the extra peak. `--only "17 layers"` does these alone,
in three minutes.

BiRQ has the paper's settings and takes its labels from layer 3 of 4: the same encoder as BEST-RQ's, at k/K = 0.75 where
the paper has 0.7; its bounds are made with 0.75.
"""

import argparse
from collections import defaultdict

from measure import NOT_MEASURED, clock_name, measure_rows, print_table, print_target, work
from step_rows import (
    BATCH,
    DEEP,
    DEEP_VIEWS,
    DIM,
    ENCODERS,
    HUBERT,
    LABEL_LAYER,
    LAYERS,
    SECONDS,
    SPEECHBRAIN,
    VIEWS,
    deep_best_rq,
    latent_rq,
    make,
    parts,
)

TURNS = dict(rounds=7, slow_rounds=2, slow_seconds=14.0)  # slow: HuBERT alone


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-hubert", action="store_true", help="leave out fairseq's HuBERT")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="rows whose names contain one of these")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of audio per utterance (default: 10)")
    parser.add_argument("--worker", nargs="+", metavar=("KIND", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, *names, seconds = arguments.worker
        return work(kind, names, lambda name: make(name, float(seconds)), **TURNS)
    wanted = [name for name in parts() if any(text in name for text in arguments.only)]
    names = [name for name in wanted if not (arguments.no_hubert and name == HUBERT)]
    rows = {}
    for together in ([name for name in names if name == HUBERT], [name for name in names if name != HUBERT]):
        if together:
            rows.update(measure_rows(__file__, together, arguments.seconds))
    report(rows, arguments.seconds)


def report(rows, seconds):
    title = f"training step, {BATCH} x {seconds:g} s, {clock_name()}"
    deep = {name: row for name, row in rows.items() if name.startswith("17 layers")}
    shallow = {name: row for name, row in rows.items() if name not in deep}
    if shallow:
        print_table(f"{title}, {LAYERS} x {DIM} (ratios to BEST-RQ with the Transformer)", shallow, "BEST-RQ, Transformer")
    if deep:
        print_table(f"{title}, {DEEP['num_layers']} x {DEEP['dim']}", deep, "17 layers: BEST-RQ")
    rows = defaultdict(lambda: NOT_MEASURED, rows)
    best = rows["BEST-RQ, Transformer"]
    if "error" not in rows[HUBERT]:
        print_target("BEST-RQ's time <= 0.03 of HuBERT's", best, rows[HUBERT], "seconds", 0.03)
        print_target("BEST-RQ's memory <= 0.06 of HuBERT's", best, rows[HUBERT], "extra_bytes", 0.06)
    report_speechbrain(rows)
    for positions in ("rel_pos", "rope"):
        rival = rows[f"fairseq's Conformer, {positions}"]
        print_target(f"Conformer <= 0.85 of fairseq's ({positions})", rows["part: encoder, Conformer"], rival, "seconds", 0.85)
    print_target("targets <= 0.02 of the step", rows["part: targets"], best, "seconds", 0.02)
    for name in ENCODERS:
        report_birq(rows, name)
    report_latent_rq(rows)


def report_speechbrain(rows):
    theirs, ours = rows[SPEECHBRAIN], rows["BEST-RQ, Conformer"]
    if "error" in theirs:
        return print(f"SpeechBrain's step: {theirs['error']} (benchmarks/peers.py says how to install it; `make bench` does)")
    print_target("BEST-RQ's time with the Conformer <= 0.5 of SpeechBrain's", ours, theirs, "seconds", 0.5)
    print_target("BEST-RQ's memory with the Conformer <= 0.25 of SpeechBrain's", ours, theirs, "extra_bytes", 0.25)


def report_birq(rows, name):
    """BiRQ against BEST-RQ: the unmasked pass costs k/K of an encoder, once for all views, and at most 5 % more."""
    best, joined, views = (rows[f"{method}, {name}"] for method in ("BEST-RQ", "BiRQ", f"BiRQ, {VIEWS} views"))
    encoder = rows[f"part: encoder, {name}"]
    if any("error" in row for row in (best, joined, views, encoder)):
        return print(f"target: BiRQ beside BEST-RQ, {name}: not available")
    share, one_view = encoder["seconds"] / best["seconds"], {"seconds": views["seconds"] / VIEWS}
    for text, row, passes in (("step", joined, 1), (f"time per view of {VIEWS}", one_view, VIEWS)):
        bound = 1.05 * (1 + LABEL_LAYER / LAYERS * share / passes)
        formula = f"1.05 (1 + {LABEL_LAYER / LAYERS:g} x {share:.2f} / {passes}) = {bound:.3g}"
        print_target(f"BiRQ's {text} <= {formula} of BEST-RQ's step, {name}", row, best, "seconds", bound)
    print_target(f"BiRQ's memory <= 1.8 of BEST-RQ's, {name}", joined, best, "extra_bytes", 1.8)


def report_latent_rq(rows):
    """Latent-RQ against BEST-RQ of the same depth and N; the paper's step takes 1.28 of it (PMLR 312:78-93, section 4)."""
    best, latent, views = (rows[f"17 layers: {name}"] for name in ("BEST-RQ", "Latent-RQ", f"Latent-RQ, {DEEP_VIEWS} views"))
    if any("error" in row for row in (best, latent, views)):
        return print("target: Latent-RQ beside BEST-RQ: not available")
    one_view = {"seconds": views["seconds"] / DEEP_VIEWS}
    print_target("Latent-RQ's step <= 1.2 of BEST-RQ's, 17 layers", latent, best, "seconds", 1.2)
    print_target(f"Latent-RQ's time per view of {DEEP_VIEWS} <= 1.12 of BEST-RQ's step", one_view, best, "seconds", 1.12)
    best, latent = (
        {"extra_bytes": row["extra_bytes"] + held_bytes(build())} for row, build in ((best, deep_best_rq), (latent, latent_rq))
    )
    print_target("Latent-RQ's memory <= 1.15 of BEST-RQ's, with weights and gradients", latent, best, "extra_bytes", 1.15)


def held_bytes(model):
    """Weights, buffers and gradients."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return sum(x.numel() * x.element_size() for x in [*model.parameters(), *model.buffers(), *trained])


if __name__ == "__main__":
    main()
