"""The whole way on the embedded corpus in ten minutes: `make demo`, or `make demo DATA=/folder/with/audio`.

Manifests, pre-training, fine-tuning with and without it, decoding, a table and a picture, all below demo_run/. With
DATA only the pre-training part, on your recordings. Run it again and it takes up where it stopped.
"""

import argparse
import hashlib
import logging
import re
import signal
import sys
from pathlib import Path

logging.disable(logging.INFO)  # importing fairseq switches on every library's debug messages

from stages import StageFailed, Stages  # noqa: E402

from fairseq_birq.analysis import curves  # noqa: E402
from fairseq_birq.decoding.errors import count_generated  # noqa: E402
from fairseq_birq.errors import UserError  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "fairseq_birq"
BIN = Path(sys.executable).parent
PRETRAINED, SCRATCH = "with pre-training", "without"


def main():
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop the running command too
    try:
        if arguments.data:
            pretrain_on_recordings(arguments)
        else:
            whole_way(arguments)
    except (UserError, StageFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with audio: pre-train on it, without the rest")
    parser.add_argument("--method", default="best_rq", help="which examples/<method>/demo.yaml (default: best_rq)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "demo_run", help="(default: demo_run)")
    parser.add_argument("--minutes", type=float, default=20.0, help="size of the embedded corpus (default: 20)")
    parser.add_argument("--pretrain-updates", type=int, help="instead of the config's")
    parser.add_argument("--finetune-updates", type=int, help="instead of the config's")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    return arguments


def whole_way(arguments):
    """Corpus, pre-training, two fine-tunings, two decodings; then the table and the picture."""
    stages, out = Stages(total=6), arguments.out
    corpus, pretraining = out / "corpus", out / arguments.method / "pretrain"
    make_corpus = [BIN / "birq-manifest", "demo", corpus, "--minutes", str(arguments.minutes)]
    stages.run("synthesise the corpus", make_corpus, out / "make_corpus", own_progress=True)
    run_pretraining(stages, arguments, corpus, "pretrain", pretraining)
    checkpoint = pretraining / "checkpoint_last.pt"
    runs = {PRETRAINED: out / arguments.method / "finetune", SCRATCH: out / "from_scratch"}
    for label, folder in runs.items():
        extra = [f"model.pretrained_path={quoted(checkpoint)}"] if label == PRETRAINED else []
        inputs = [corpus / "train.tsv", corpus / "train.ltr", *([pretraining / "done"] if extra else [])]
        train(stages, f"fine-tune {label}", "finetune", arguments.finetune_updates, corpus, folder, extra, inputs)
    for label, folder in runs.items():
        decode(stages, label, corpus, folder)
    report_runs(arguments, pretraining, runs)


def pretrain_on_recordings(arguments):
    """Manifests of the user's folder, pre-training, a picture."""
    data = arguments.data.resolve()
    name = f"{data.name}-{hashlib.sha256(str(data).encode()).hexdigest()[:8]}"
    stages, out = Stages(total=2), arguments.out / name
    manifests, folder = out / "manifests", out / arguments.method / "pretrain"
    command = [BIN / "birq-manifest", data, manifests, "--valid-fraction", "0.05", "--min-seconds", "0.5"]
    stages.run(f"look through {data}", command, out / "make_manifests", own_progress=True, always=True)
    run_pretraining(stages, arguments, manifests, "train", folder)
    log = curves.read_log(folder / "log.txt")
    print_codes(log)
    print(f"\nencoder: {folder / 'checkpoint_last.pt'}")
    print(f"picture: {curves.draw(curves.pretraining_panels(log), folder.parent / 'curves.png')}")


def run_pretraining(stages, arguments, data, subset, folder):
    extra = [f"dataset.train_subset={subset}"]
    inputs = [data / f"{subset}.tsv"]
    train(stages, "pre-train", arguments.method, arguments.pretrain_updates, data, folder, extra, inputs)


def train(stages, title, example, updates, data, folder, extra, inputs=()):
    """`fairseq-hydra-train` with examples/<example>/demo.yaml; resumes by itself from `folder/checkpoint_last.pt`."""
    config = REPOSITORY / "examples" / example / "demo.yaml"
    if not config.is_file():
        raise UserError(f"{config}: no such file. METHOD names a folder of examples/ with a demo.yaml")
    shown = updates or int(re.search(r"^  max_update: (\d+)", config.read_text(), re.MULTILINE).group(1))
    command = [BIN / "fairseq-hydra-train", "--config-dir", config.parent, "--config-name", config.stem]
    command += [f"common.user_dir={quoted(PACKAGE)}", f"task.data={quoted(data)}", f"checkpoint.save_dir={quoted(folder)}"]
    command += [f"hydra.run.dir={quoted(folder / 'hydra')}", *extra]
    if updates:
        command.append(f"optimization.max_update={updates}")
    stages.run(title, command, folder, updates=shown, inputs=[config, *inputs])


def quoted(path):
    """A path as hydra's grammar takes it, whatever characters are in it."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def decode(stages, label, corpus, folder):
    command = [BIN / "fairseq-generate", corpus, "--user-dir", PACKAGE, "--task", "birq_asr"]
    command += ["--path", folder / "checkpoint_best.pt", "--gen-subset", "test"]
    command += ["--scoring", "wer", "--post-process", "letter", "--results-path", folder / "decode"]
    stages.run(f"decode {label}", command, folder / "decode", inputs=[folder / "done"])


def report_runs(arguments, pretraining, runs):
    """Print code health and the table, write both results below demo_run/<method>/."""
    table = ["| test | WER % | CER % |", "| --- | --- | --- |"]
    for label, folder in runs.items():
        counts = count_generated((folder / "decode" / "generate-test.txt").read_text())
        table.append(f"| {label} | {counts.wer:.1f} | {counts.cer:.1f} |")
    log = curves.read_log(pretraining / "log.txt")
    print_codes(log)
    print("\n" + "\n".join(table))
    folder = arguments.out / arguments.method
    (folder / "table.md").write_text("\n".join(table) + "\n")
    logs = {label: curves.read_log(run / "log.txt") for label, run in runs.items()}
    panels = curves.pretraining_panels(log) + curves.finetuning_panels(logs, "valid")
    print(f"\npicture: {curves.draw(panels, folder / 'curves.png')}")


def print_codes(log):
    """The last line of training: did the codes stay in use, and does the model predict more than the commonest one?"""
    points = log[curves.training_group(log)]
    last = points[max(points)]
    for name in sorted(last):
        if name.startswith("perplexity_"):
            source = name[len("perplexity_") :]
            print(
                f"codes of {source}: perplexity {last[name]:.0f}, masked accuracy {last[f'accuracy_{source}']:.3f}, "
                f"share of the most frequent code {last[f'top_share_{source}']:.3f}"
            )


if __name__ == "__main__":
    sys.exit(main())
