"""Running the demo's stages: each once, with a stamp when it is done and a line of progress while it runs."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fairseq_birq.tools.pictures.curves import parse_line

LINE_EVERY_S = 15  # where the output is no terminal


class StageFailed(Exception):
    """A stage's command failed; the text names its log."""


class Stages:
    """Counts stages, skips those whose stamp has the same command, and prints what happens.

    Args:
        total: number of stages, for "[2/6]".
    """

    def __init__(self, total):
        self.total, self.number = total, 0

    def run(self, title, command, folder, updates=None, inputs=(), own_progress=False, always=False):
        """Run `command` with its output in `folder/log.txt`. A stage that was stopped half-way goes on in its folder.

        updates: the training's `max_update`, for the line of progress
        inputs: files that the result depends on beside the command; a change empties the folder and begins again
        own_progress: the command draws a progress bar on stderr, which goes to the terminal
        always: run it again even if it was done before

        Raises:
            StageFailed: the command does not end with status 0.
        """
        self.number += 1
        label = f"[{self.number}/{self.total}] {title}"
        begun, done, wanted = folder / "begun", folder / "done", _digest(command, inputs)
        if done.is_file() and done.read_text() == wanted and not always:
            print(f"{label}: done before", flush=True)
            return
        if folder.is_dir() and not (begun.is_file() and begun.read_text() == wanted):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        begun.write_text(wanted)
        print(f"{label} ...", flush=True)
        start, log = time.monotonic(), folder / "log.txt"
        status = _follow(command, log, updates, start, own_progress)
        if status:
            raise StageFailed(f"{title} ended with status {status}" + _tail(log))
        done.write_text(wanted)
        print(f"{label}: {time.monotonic() - start:.0f} s", flush=True)


def _digest(command, inputs):
    digest = hashlib.sha256("\0".join(map(str, command)).encode())
    for path in inputs:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _tail(path, lines=8):
    """What the command said last, for the error message; nothing where it spoke to the terminal itself."""
    last = path.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([f". The end of {path}:", *("    " + line for line in last)]) if last else ""


def _follow(command, log_path, updates, start, own_progress):
    """Run to the end, append the output to the log, show progress, and return the exit status."""
    errors = None if own_progress else subprocess.STDOUT
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log_path.open("a") as log:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
        progress = _Progress(updates, start)
        try:
            for line in process.stdout:
                log.write(line)
                log.flush()
                progress.show(line)
        except BaseException:
            process.terminate()
            raise
        finally:
            progress.end()
            process.wait()
    return process.returncode


class _Progress:
    def __init__(self, updates, start):
        self.updates, self.start, self.last_s, self.drawn = updates, start, start, False

    def show(self, line):
        if not self.updates:
            return
        record = parse_line(line)
        if record is None or record[0] != "train_inner":
            return
        now, terminal = time.monotonic(), sys.stdout.isatty()
        if not terminal and now - self.last_s < LINE_EVERY_S:
            return
        self.last_s, self.drawn = now, terminal
        _, update, values = record
        text = f"      update {update}/{self.updates}, loss {values.get('loss', float('nan')):.2f}, {now - self.start:.0f} s"
        print(f"\r{text}   " if terminal else text, end="" if terminal else "\n", flush=True)

    def end(self):
        if self.drawn:
            print(flush=True)
