"""An encoder in s3prl's own tasks, beside FBANK there and beside `birq-probe` on the same encoder.

    python examples/s3prl/run.py CHECKPOINT OUT --speech /data/mboshi --speakers /data/fsdd

Exports the checkpoint, runs tasks.py of this folder in the environment of `make s3prl`, runs birq-probe here, and writes
OUT/table.md. The same command again goes on where it stopped.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
RESULT = "evaluate/valid_best/test/result.yaml"  # in the folder of a task
OF_S3PRL = {"sid": ("accuracy", "↑"), "pr": ("per", "↓"), "asr": ("cer", "↓")}
OF_OURS = {"sid": "sid", "pr": "phone", "asr": "asr"}  # phone: of frames, where s3prl's is CTC


def main() -> int:
    options = parse()
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    upstream = out / "upstream"
    if not upstream.exists():  # it appears whole or not at all
        call([sys.executable, "-m", "fairseq_birq.cli.export", options.checkpoint, upstream, "--to", "s3prl"])
    for task in options.tasks:
        data = options.speakers if task == "sid" else options.speech
        for name, source in {"ours": upstream, **{name: name for name in options.beside}}.items():
            place = out / f"{name}_{task}"
            if not (place / RESULT).exists():
                call(
                    [options.python, HERE / "tasks.py", task, source, data, place, *given(options)],
                    log=out / f"{name}_{task}.log",
                )
        if not options.no_probe:
            command = [sys.executable, "-m", "fairseq_birq.cli.probe", OF_OURS[task], f"ours={options.checkpoint}", data]
            call([*command, "--out", out / "probes", *given(options)], log=out / f"probe_{task}.log")
    lines = table(out, ["ours", *options.beside])
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="pre-trained or fine-tuned, of a log-Mel Conformer")
    parser.add_argument("out")
    parser.add_argument("--speech", required=True, help="folder with train, dev and test, each .tsv, .phn and .ltr")
    parser.add_argument("--speakers", required=True, help="the same with .tsv and .spk")
    parser.add_argument("--tasks", nargs="+", choices=OF_S3PRL, default=list(OF_S3PRL))
    parser.add_argument("--beside", nargs="*", default=["fbank"], help="upstreams of s3prl's that need no download")
    parser.add_argument("--no-probe", action="store_true", help="leave out birq-probe")
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--python", default=REPOSITORY / "build/s3prl-env/bin/python", help="of the environment with s3prl")
    return parser.parse_args()


def given(options):
    return ["--updates", options.updates, "--seed", options.seed]


def call(command, log=None) -> None:
    """Run a command on this checkout. Ends with its last words where it fails."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    environment["TQDM_MININTERVAL"] = "60"  # seconds; s3prl counts its updates by the bar, which must not be switched off
    print(" ".join(map(str, command)), flush=True)
    done = subprocess.run(list(map(str, command)), env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if log is not None:
        log.write_text(done.stdout, encoding="utf-8")
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])


def table(out: Path, upstreams):
    """Lines of a Markdown table, of all that `out` has: per cent on test."""
    tasks = [task for task in OF_S3PRL if any((out / f"{name}_{task}" / RESULT).exists() for name in upstreams)]
    heads = [f"{task} {OF_S3PRL[task][0]} {OF_S3PRL[task][1]}" for task in tasks]
    lines = [f"| | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for name in upstreams:
        found = [_of_s3prl(out / f"{name}_{task}" / RESULT, OF_S3PRL[task][0]) for task in tasks]
        lines.append(f"| s3prl: {name} | {' | '.join(found)} |")
    probes = out / "probes" / "results.json"
    results = {one["task"]: one for one in json.loads(probes.read_text())} if probes.exists() else {}
    ours = [results.get(OF_OURS[task]) for task in tasks]
    cells = ["" if one is None else f"{one['test'][one['measure']]:.1f} ({one['measure']})" for one in ours]
    return [*lines, f"| birq-probe: ours | {' | '.join(cells)} |"]


def _of_s3prl(path: Path, measure: str) -> str:
    return f"{100 * yaml.safe_load(path.read_text())[measure]:.1f}" if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
