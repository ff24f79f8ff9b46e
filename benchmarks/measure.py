"""Time and extra peak memory of calls, and the table that compares them.

Times that are compared come from one process, where the calls take turns: a machine that slows down slows them all. Peak
memory is measured in a process per row.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import torch

from fairseq_birq.tools.doctor.peak import peak_bytes, reset_peak

MIB = 1 << 20
# glibc then keeps what is freed, as the allocators of accelerators do: without it a step of 3 GB spends a tenth of its time
# on page faults, more than what is compared
KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(256 << 20)}
NOT_MEASURED = {"error": "not measured"}


def measure_rows(script, names, *settings):
    """{name: {"seconds", "extra_bytes"} or {"error": reason}}, from workers `script --worker KIND names.. settings`.

    A worker hands what it was given to `work`.
    """
    times = _run_worker(script, "times", names, settings)
    rows = {name: times if "error" in times else times[name] for name in names}
    for name, row in rows.items():
        rows[name] = row if "error" in row else {**row, **_run_worker(script, "memory", [name], settings)}
    return rows


def _run_worker(script, kind, names, settings):
    """The JSON object of a worker's last line, or {"error": reason} where it fails."""
    print("  ...", f"{kind}:", "; ".join(names), *settings, file=sys.stderr, flush=True)
    command = [sys.executable, "-W", "ignore", str(script), "--worker", kind, *names, *map(str, settings)]
    environment = {**os.environ, **(KEEP_FREED_MEMORY if kind == "times" else {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"error": lines[-1][:100]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def work(kind, names, make, **turns):
    """A worker: measure the calls `make(name)`, of which a tiny one was made before, and print JSON.

    Args:
        kind: "times" of all names in turns, see `take_turns`, or "memory" of the only name.
        turns: arguments of `take_turns`.
    """
    calls, failed = {}, {}
    for name in names:
        try:
            calls[name] = make(name)
        except Exception as error:  # a rival that is not installed, or does not fit what is
            failed[name] = {"error": f"{type(error).__name__}: {error}"[:100]}
    if kind == "times":
        seconds = take_turns(calls, **turns)
        print(json.dumps({**failed, **{name: {"seconds": value} for name, value in seconds.items()}}))
    else:
        print(json.dumps(failed.get(names[0]) or {"extra_bytes": peak_memory(calls[names[0]])}))


def take_turns(calls, rounds, slow_rounds, slow_seconds):
    """Median seconds of each of `calls` ({name: call}), called once in each of `rounds` rounds, and once before to warm up.

    Those that take longer than `slow_seconds` are called in `slow_rounds` rounds only, spread over all, the first counts.
    """
    steps = max(1, slow_rounds - 1)
    slow_turns = {index * rounds // steps for index in range(slow_rounds)}
    seconds = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            if turn in slow_turns or seconds[name][0] <= slow_seconds:
                seconds[name].append(_timed(call))
    warm = {name: values if values[0] > slow_seconds else values[1:] for name, values in seconds.items()}
    return {name: statistics.median(values) for name, values in warm.items()}


def _timed(call):
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    call()
    return clock() - start


def clock_name() -> str:
    threads = torch.get_num_threads()
    return "process time of one thread" if threads == 1 else f"{threads} threads"


def peak_memory(call):
    """How far a call raises the process's peak memory, in bytes.

    Lazily loaded libraries must be loaded before: make a tiny call first.
    """
    before = reset_peak()
    call()
    return max(0, peak_bytes() - before)


def print_table(title, rows, reference):
    """Print time and memory of `rows` ({name: result}) and their ratios to the row `reference`."""
    base = rows.get(reference, NOT_MEASURED)
    print(f"\n{title}\n| what | ms | extra peak MiB | time ratio | memory ratio |\n| --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        if "error" in row:
            print(f"| {name} | not available: {row['error']} | | | |")
            continue
        cells = [f"{1000 * row['seconds']:.1f}", f"{row['extra_bytes'] / MIB:.1f}"]
        cells += [ratio(row, base, "seconds"), ratio(row, base, "extra_bytes")]
        print(f"| {name} | " + " | ".join(cells) + " |")


def ratio(row, base, key):
    if "error" in row or "error" in base:
        return "n/a"
    return f"{row[key] / max(base[key], 1e-9):.3g}"


def print_target(text, row, base, key, bound):
    """One line: is row[key] <= bound * base[key]? `base` None: bound is absolute."""
    if "error" in row or (base is not None and "error" in base):
        print(f"target: {text}: not available")
        return
    value = row[key] / (base[key] if base else 1)
    shown = f"{value / MIB:.1f} MiB" if base is None and key == "extra_bytes" else f"{value:.3g}"
    print(f"target: {text}: {shown} {'met' if value <= bound else 'MISSED'}")
