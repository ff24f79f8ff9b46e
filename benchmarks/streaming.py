"""A stream on one core: real-time factor, time of a step and latency, beside the whole recording at once.

    python benchmarks/streaming.py                                  # small and base, chunks of 160 to 1280 ms
    python benchmarks/streaming.py base --chunk-ms 640 --left-chunks 4 --seconds 60

Random weights and noise: time does not depend on what is said. Sizes are those of examples/birq/streaming.yaml (small) and of
Latent-RQ's base (12 layers of 512). Chunk lengths take turns, chunk by chunk, in one process with one thread; times are process
times, so that other work on the machine counts for little. What training with chunks costs says

    python benchmarks/paired.py . best_rq birq --set model.encoder.causal=true model.frontend.feature_norm=running \\
        --set-new model.chunks.prob=1.0

Prints a table and, in its last line, JSON.
"""

import argparse
import json
import statistics
import time

import torch

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.config import BirqConfig
from fairseq_birq.settings import from_dict

SIZES = {
    "small": {"num_layers": 3, "dim": 96, "ffn_dim": 384, "num_heads": 4, "conv_kernel": 15},
    "base": {"num_layers": 12, "dim": 512, "ffn_dim": 2048, "num_heads": 8, "conv_kernel": 31},
}


def main():
    options = parse()
    torch.set_num_threads(1)
    rows = [row for size in options.sizes for row in measure(size, options)]
    print(f"\n{options.seconds:g} s of noise, {options.left_chunks} chunks of left context, one thread\n")
    print("| size | chunk ms | step ms: median, 95 % | real-time factor | latency ms | whole recording |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        step = f"{row['step_ms']:.1f}, {row['step_ms_95']:.1f}"
        latency = f"{row['chunk_latency_ms']:.0f} + {row['step_ms']:.0f}"
        name, factor = f"{row['size']}, {row['millions']:.1f} M", f"{row['real_time_factor']:.3f}"
        print(f"| {name} | {row['chunk_ms']:g} | {step} | {factor} | {latency} | {row['whole_real_time_factor']:.3f} |")
    print(json.dumps(rows))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=list(SIZES), help=", ".join(SIZES))
    parser.add_argument("--chunk-ms", nargs="*", type=float, default=[160.0, 320.0, 640.0, 1280.0])
    parser.add_argument("--left-chunks", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the recording")
    options = parser.parse_args()
    for size in options.sizes:
        if size not in SIZES:
            parser.error(f"{size!r} is none of {', '.join(SIZES)}")
    return options


@torch.no_grad()
def measure(size, options):
    """A row for every chunk length."""
    encoder = built(size)
    rate = encoder.frontend.sample_rate
    wave = 0.1 * torch.randn(int(options.seconds * rate), generator=torch.Generator().manual_seed(1))
    whole = time_of(lambda: encoder(wave[None]))
    steps = {chunk_ms: [] for chunk_ms in options.chunk_ms}
    streams = {chunk_ms: encoder.stream(chunk_ms, options.left_chunks) for chunk_ms in options.chunk_ms}
    pushed = dict.fromkeys(steps, 0)
    while any(begin < len(wave) for begin in pushed.values()):
        for chunk_ms, stream in streams.items():
            begin, count = pushed[chunk_ms], int(chunk_ms * rate / 1000)
            steps[chunk_ms].append(time_of(lambda begin=begin, count=count, to=stream: to.push(wave[begin : begin + count])))
            pushed[chunk_ms] += count
    millions = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    for chunk_ms, stream in streams.items():
        used = steps[chunk_ms][: -(-len(wave) // int(chunk_ms * rate / 1000))]
        full = sorted(used[len(used) // 2 :])  # the left context is there
        yield {
            "size": size,
            "millions": millions,
            "chunk_ms": chunk_ms,
            "step_ms": 1000 * statistics.median(full),
            "step_ms_95": 1000 * full[int(0.95 * (len(full) - 1))],
            "real_time_factor": sum(used) / options.seconds,
            "chunk_latency_ms": stream.latency_ms,
            "whole_real_time_factor": whole / options.seconds,
        }


def built(size):
    settings = {"frontend": {"feature_norm": "running"}, "encoder": {**SIZES[size], "causal": True}}
    cfg = from_dict(BirqConfig, settings)
    torch.manual_seed(1)
    return build_speech_encoder(cfg.frontend, cfg.encoder).eval()


def time_of(work) -> float:
    """Seconds of process time."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
