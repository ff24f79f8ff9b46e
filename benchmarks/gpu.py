"""`make gpu-check`: everything about this package that only a GPU can tell, in one run of at most 8 minutes on one H100.

    python benchmarks/gpu.py --out build/gpu
    python benchmarks/gpu.py --out /tmp/gpu --device cpu --tiny     here: does the check itself work?

Stages in the order of their worth: correctness against the CPU, every precision with a bad update, time of an update, levers one
by one, batch sizes, peers, labels, loading, checkpoints, the tests with the marker `gpu`. Each stage has a budget; one that
fails or runs out of it is noted, and the next begins. `gpu.json` is written after every result, `gpu.md`, a table with the
device's name, at the end, also where the run is stopped by SIGTERM or its time. Times are medians of the wall, the
device's queue empty before and after. MFU counts the matrix products, as torch counts them, against 989 TFLOP/s.
"""

import argparse
import logging
import signal
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import gpu_correct
import gpu_speed
import torch
from gpu_setup import REPOSITORY, Check
from gpu_table import table

STAGES = {  # name: (function, seconds that it may take)
    "environment": (gpu_correct.environment, 10),
    "correctness": (gpu_correct.correctness, 50),
    "precisions": (gpu_correct.precisions, 75),
    "step": (gpu_speed.step, 60),
    "levers": (gpu_speed.levers, 120),
    "batch sizes": (gpu_speed.batch_sizes, 50),
    "peers": (gpu_speed.peers, 40),
    "labels": (gpu_speed.labels, 15),
    "loading": (gpu_speed.loading, 25),
    "checkpoints": (gpu_speed.checkpoints, 30),
    "tests": (gpu_correct.tests, 90),
}
SECONDS = 450.0
REACHED_END = 10  # seconds that a stage needs to be worth its start


class Stopped(BaseException):
    """SIGTERM or Ctrl-C; not an `Exception`, so that no stage takes it for a failure of its own."""


def main(argv=None) -> int:
    arguments = parser().parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        built = "is a CPU build" if torch.version.cuda is None else "sees none"
        print(
            f"error: this check needs a CUDA device, and torch {torch.__version__} {built}. To try the check itself: "
            "python benchmarks/gpu.py --device cpu --tiny --out FOLDER",
            file=sys.stderr,
        )
        return 2
    unknown = set(arguments.only) - set(STAGES)
    if unknown:
        print(f"error: no stage {', '.join(sorted(unknown))}; there are: {', '.join(STAGES)}", file=sys.stderr)
        return 2
    out = Path(arguments.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    check = Check(arguments.device, arguments.tiny, out, arguments.seconds)
    check.results = {"device": device_name(check), "commit": commit(), "tiny": check.tiny, "stages": {}, "seconds": {}}
    stopped = run(check, arguments.only or list(STAGES))
    (out / "gpu.md").write_text(table(check.results))
    print((out / "gpu.md").read_text())
    return 1 if stopped else 0


def run(check: Check, names) -> bool:
    """All stages; whether the run was stopped."""
    handlers = {signal.SIGTERM: _stop, signal.SIGINT: _stop, signal.SIGALRM: _time_is_up}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        for name in names:
            run_stage(check, name)
    except Stopped as error:
        check.results["stopped"] = str(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        check.write()
    return "stopped" in check.results


def run_stage(check: Check, name: str) -> None:
    """One stage within its budget, with whatever it raises as a note."""
    function, budget = STAGES[name]
    check.stage, begin = name, time.perf_counter()
    check.deadline = float("inf")
    if check.left() < REACHED_END:
        return check.note(skipped="no time left")
    check.deadline = begin + min(budget, check.left())
    signal.setitimer(signal.ITIMER_REAL, check.left())
    try:
        function(check)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        check.note(failed=f"{type(error).__name__}: {str(error)[:500]}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    check.results["seconds"][name] = round(time.perf_counter() - begin, 1)
    check.free()
    check.write()


def _stop(number, frame):
    raise Stopped(f"by signal {signal.Signals(number).name}")


def _time_is_up(number, frame):
    raise TimeoutError("the stage's time is over")


def device_name(check: Check) -> str:
    return torch.cuda.get_device_name() if check.cuda else f"CPU, {torch.get_num_threads()} threads"


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout.strip()
    except OSError:
        return ""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(REPOSITORY / "build" / "gpu"), help="folder for gpu.json and gpu.md (build/gpu)")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small sizes and few rounds: figures that mean nothing")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of the whole run ({SECONDS:.0f})")
    parser.add_argument("--only", nargs="*", default=[], metavar="STAGE", help="these stages")
    return parser


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    sys.exit(main())
