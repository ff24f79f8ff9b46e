"""Start-up time and memory of workers with a manifest of many rows; audio itself is not read.

    python benchmarks/manifest_size.py --rows 10000000 --folder runs/manifest_size    the manifest stays there for the next run

Memory is what a worker has after `--items` utterances at random: "own" pages, which it shares with no one, and all that are
resident, of which a forked worker has those of the main process at its start. The first row is a manifest of 1,000 rows.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from fairseq.data import data_utils
from fairseq.data.iterators import EpochBatchIterator
from measure import MIB
from torch.utils.data import DataLoader

from fairseq_birq.data import manifest as manifest_module
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.doors.datasets import FairseqAudioDataset

SMALL = 1000
MAX_TOKENS = 5_120_000  # 320 s in a batch
STEPS = ("manifest", "dataset", "order", "batches", "shuffle")


class WithoutAudio(FairseqAudioDataset):
    """Looks up paths and lengths as ever, but makes one sample of silence of each."""

    def _find_first_rate(self):
        return self.sample_rate

    def _read(self, index, offset, count):
        assert self.manifest.audio_path(index) and self.manifest.count(index)
        return np.zeros(1, dtype=np.float32)


class MemoryOfWorker(WithoutAudio):
    """Items are what the worker has: (own bytes, resident bytes)."""

    def __getitem__(self, index):
        super().__getitem__(index)
        return memory() if index % 256 == 0 else None


def memory():
    sizes = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        key, size = line.split()[:2]
        sizes[key] = 1024 * int(size)
    return sizes["Private_Clean:"] + sizes["Private_Dirty:"], sizes["Rss:"]


def write_synthetic(path, rows):
    """Paths of 45 bytes, 0.5 to 30 s each."""
    lengths, block = np.random.default_rng(0), 100_000
    with open(path, "w") as file:
        file.write("/data/corpus\n")
        for start in range(0, rows, block):
            counts = lengths.integers(8000, 480_000, size=min(block, rows - start)).tolist()
            for row, count in enumerate(counts, start):
                file.write(f"speaker{row // 1000:06d}/session{row // 100:08d}/utt{row:010d}.flac\t{count}\n")


def measure(path, items, in_memory):
    """{step: [wall seconds, CPU seconds]} of a start in this process, and the bytes of a worker."""
    if in_memory:
        manifest_module.INDEX_FROM_BYTES = 1 << 60
    found = {}

    def step(name, call):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        found[name] = [time.perf_counter() - wall, time.process_time() - cpu]
        return result

    manifest = step("manifest", lambda: read_manifest(path))
    dataset = step("dataset", lambda: MemoryOfWorker(manifest, max_samples=250_000, min_samples=8000))
    indices = np.random.default_rng(1).integers(len(manifest), size=items)
    found["worker"] = [max(values) for values in zip(*_in_worker(dataset, indices))]
    with data_utils.numpy_seed(1):
        order = step("order", dataset.ordered_indices)
    batches = step("batches", lambda: dataset.batch_by_size(order, max_tokens=MAX_TOKENS))
    iterator = EpochBatchIterator(dataset, dataset.collater, batches, num_shards=8)
    step("shuffle", lambda: iterator.ordered_batches(1, False, True))
    found["worker beside batches"] = [max(values) for values in zip(*_in_worker(dataset, indices))]
    return found


def _in_worker(dataset, indices):
    loader = DataLoader(dataset, batch_sampler=np.array_split(indices, 100), num_workers=1, collate_fn=list)
    return [item for batch in loader for item in batch if item is not None]


def in_process(path, items, kind):
    command = [sys.executable, "-W", "ignore", __file__, "--worker", str(path), kind, "--items", str(items)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", default="manifest_size")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        path, kind = options.worker
        print(json.dumps(measure(Path(path), options.items, kind == "memory")))
        return
    print_table(Path(options.folder), options.rows, options.items)


def print_table(folder, rows, items):
    folder.mkdir(parents=True, exist_ok=True)
    print(f"| rows | | {' | '.join(STEPS)} | own MiB | resident MiB | beside batches |")
    print("| --- " * (len(STEPS) + 5) + "|")
    for count, title in [(SMALL, "start"), (rows, "first start"), (rows, "later starts"), (rows, "all in memory")]:
        path = folder / f"{count}.tsv"
        if not path.is_file():
            write_synthetic(path, count)
        if title == "first start":
            path.with_name(f".{path.name}.index").unlink(missing_ok=True)
        found = in_process(path, items, "memory" if title == "all in memory" else "index")
        seconds = " | ".join(f"{wall:.1f} ({cpu:.1f})" for wall, cpu in (found[step] for step in STEPS))
        mib = [f"{value / MIB:.0f}" for value in found["worker"] + found["worker beside batches"]]
        print(f"| {count:,} | {title} | {seconds} | {mib[0]} | {mib[1]} | {mib[2]}, {mib[3]} |", flush=True)
    print("seconds (of CPU time); MiB of a worker, and own and resident ones once the main process has the batches")


if __name__ == "__main__":
    main()
