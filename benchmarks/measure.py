"""Time and extra peak memory of a call, in a process of its own, and the table that compares them."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

MIB = 1 << 20


def measure(call, min_calls=3, max_seconds=10.0):
    """Median seconds of `call` and how far its first call raised the process's peak memory, in bytes.

    Lazily loaded libraries must be loaded before: make a tiny call first.
    """
    before = _reset_peak()
    seconds = [_timed(call)]
    extra_bytes = max(0, _status_bytes("VmHWM") - before)
    while len(seconds) < min_calls or (sum(seconds) < max_seconds and len(seconds) < 50):
        if sum(seconds) > 3 * max_seconds:
            break
        seconds.append(_timed(call))
    timed = seconds[1:] or seconds
    return {"seconds": statistics.median(timed), "extra_bytes": extra_bytes}


def _timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _reset_peak():
    """Set VmHWM back to the present size (proc(5), clear_refs) and return that size."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def _status_bytes(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}: this benchmark needs Linux")


def measure_alone(script, *arguments, rounds=1):
    """Run `script --worker *arguments` `rounds` times, each in a new process; the round of median time.

    A worker prints one JSON object on its last line. Returns {"error": reason} where it fails.
    """
    results = []
    for _ in range(rounds):
        command = [sys.executable, "-W", "ignore", str(script), "--worker", *map(str, arguments)]
        print("  ...", " ".join(map(str, arguments)), file=sys.stderr, flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            return {"error": lines[-1][:100]}
        results.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return sorted(results, key=lambda result: result["seconds"])[len(results) // 2]


def print_table(title, rows, reference):
    """Print time and memory of `rows` ({name: result}) and their ratios to the row `reference`."""
    base = rows[reference]
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
