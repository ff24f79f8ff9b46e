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

from fairseq_birq.decoding.errors import count_generated  # noqa: E402
from fairseq_birq.errors import UserError  # noqa: E402
from fairseq_birq.tools.pictures import curves  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "fairseq_birq"
BIN = Path(sys.executable).parent
SCRATCH = "without pre-training"
TITLES = {"best_rq": "BEST-RQ", "birq": "BiRQ", "latent_rq": "Latent-RQ"}


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
    methods = ["best_rq", "birq"]
    parser.add_argument("--method", nargs="+", default=methods, help="which examples/<method>/demo.yaml (default: best_rq birq)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "demo_run", help="(default: demo_run)")
    parser.add_argument("--minutes", type=float, default=20.0, help="size of the embedded corpus (default: 20)")
    parser.add_argument("--pretrain-updates", type=int, help="instead of the config's")
    parser.add_argument("--finetune-updates", type=int, help="instead of the config's")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    return arguments


def whole_way(arguments):
    """Corpus, pre-training, fine-tunings with and without it, decodings; then the table and the picture."""
    methods, out = arguments.method, arguments.out
    stages, corpus = Stages(total=3 + 3 * len(methods)), out / "corpus"
    make_corpus = [sys.executable, REPOSITORY / "examples" / "demo" / "corpus.py", corpus, "--minutes", str(arguments.minutes)]
    stages.run("synthesise the corpus", make_corpus, out / "make_corpus", own_progress=True)
    for method in methods:
        run_pretraining(stages, arguments, method, corpus, "pretrain", out / method / "pretrain")
    runs = {SCRATCH: out / "from_scratch", **{title(method): out / method / "finetune" for method in methods}}
    for label, folder in runs.items():
        extra, inputs = [], [corpus / "train.tsv", corpus / "train.ltr"]
        if label != SCRATCH:
            pretraining = folder.parent / "pretrain"
            extra = [f"model.pretrained_path={quoted(pretraining / 'checkpoint_last.pt')}"]
            inputs.append(pretraining / "done")
        train(stages, f"fine-tune, {label}", "finetune", arguments.finetune_updates, corpus, folder, extra, inputs)
    for label, folder in runs.items():
        decode(stages, label, corpus, folder)
    report_runs(arguments, runs)


def title(method):
    return TITLES.get(method, method)


def pretrain_on_recordings(arguments):
    """Manifests of the user's folder, pre-training, a picture."""
    data = arguments.data.resolve()
    name = f"{data.name}-{hashlib.sha256(str(data).encode()).hexdigest()[:8]}"
    stages, out = Stages(total=1 + len(arguments.method)), arguments.out / name
    manifests = out / "manifests"
    command = [BIN / "birq-manifest", data, manifests, "--valid-fraction", "0.05", "--min-seconds", "0.5"]
    stages.run(f"look through {data}", command, out / "make_manifests", own_progress=True, always=True)
    for method in arguments.method:
        folder = out / method / "pretrain"
        run_pretraining(stages, arguments, method, manifests, "train", folder)
        log = curves.read_log(folder / "log.txt")
        print_codes(method, log)
        print(f"encoder: {folder / 'checkpoint_last.pt'}")
        print(f"picture: {curves.draw(curves.pretraining_panels(log), folder.parent / 'curves.png')}")


def run_pretraining(stages, arguments, method, data, subset, folder):
    extra = [f"dataset.train_subset={subset}"]
    inputs = [data / f"{subset}.tsv"]
    train(stages, f"pre-train, {title(method)}", method, arguments.pretrain_updates, data, folder, extra, inputs)


def train(stages, name, example, updates, data, folder, extra, inputs=()):
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
    stages.run(name, command, folder, updates=shown, inputs=[config, *inputs])


def quoted(path):
    """A path as hydra's grammar takes it, whatever characters are in it."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def decode(stages, label, corpus, folder):
    command = [BIN / "fairseq-generate", corpus, "--user-dir", PACKAGE, "--task", "birq_asr"]
    command += ["--path", folder / "checkpoint_best.pt", "--gen-subset", "test"]
    command += ["--scoring", "wer", "--post-process", "letter", "--results-path", folder / "decode"]
    stages.run(f"decode, {label}", command, folder / "decode", inputs=[folder / "done"])


def report_runs(arguments, runs):
    """Print code health and the table, write the table and a picture per method below demo_run/."""
    table = ["| test | WER % | CER % |", "| --- | --- | --- |"]
    for label, folder in runs.items():
        counts = count_generated((folder / "decode" / "generate-test.txt").read_text())
        table.append(f"| {label} | {counts.wer:.1f} | {counts.cer:.1f} |")
    pretrainings = {method: curves.read_log(arguments.out / method / "pretrain" / "log.txt") for method in arguments.method}
    for method, log in pretrainings.items():
        print_codes(method, log)
    print("\n" + "\n".join(table) + "\n")
    (arguments.out / "table.md").write_text("\n".join(table) + "\n")
    errors = curves.finetuning_panels({label: curves.read_log(run / "log.txt") for label, run in runs.items()}, "valid")
    for method, log in pretrainings.items():
        panels = curves.pretraining_panels(log) + errors
        print(f"picture, {title(method)}: {curves.draw(panels, arguments.out / method / 'curves.png')}")


def print_codes(method, log):
    """The last line of training: did the codes stay in use, and does the model predict more than the commonest one?"""
    points = log[curves.training_group(log)]
    last = points[max(points)]
    for name in sorted(last):
        if name.startswith("perplexity_"):
            source = name[len("perplexity_") :]
            accuracy, share = last[f"accuracy_{source}"], last[f"top_share_{source}"]
            print(
                f"{title(method)}, codes of {source}: perplexity {last[name]:.0f}, masked accuracy {accuracy:.3f}, "
                f"share of the most frequent code {share:.3f}"
            )


if __name__ == "__main__":
    sys.exit(main())
