"""What modules/cpu.py gains on a CPU: process time of each of its functions against the plain line of torch.

    OMP_NUM_THREADS=1 python benchmarks/cpu_tricks.py

Forward and backward, where a gradient goes through; both in turns in one process, medians. Sizes are those of
benchmarks/step.py: 8 x 10 s at 25 Hz, d = 256, 4 heads, V = 8192.
"""

import argparse
import statistics
import time

import torch
from torch.nn import functional as F

from fairseq_birq.frontends.logmel import LogMel
from fairseq_birq.modules import cpu

B, T, DIM, HEADS, V, KERNEL = 8, 250, 256, 4, 8192, 31
MASKED = 256  # frames whose logits are one block


def both(plain, ours, *inputs):
    """Calls that go forward and backward through each of two functions of `inputs`."""
    return [lambda function=function: function(*inputs).sum().backward() for function in (plain, ours)]


def dropout_rows():
    x = torch.randn(B, T, DIM, requires_grad=True)
    return both(lambda x: F.dropout(x, 0.1), lambda x: cpu.dropout(x, 0.1), x)


def attention_rows():
    parts = [torch.randn(B, HEADS, T, DIM // HEADS, requires_grad=True) for _ in range(3)]

    def plain(*parts):
        return F.scaled_dot_product_attention(*parts, dropout_p=0.1)

    return both(plain, lambda *parts: cpu.attend(*parts, None, 0.1), *parts)


def convolution_rows():
    convolution = torch.nn.Conv1d(DIM, DIM, KERNEL, padding=KERNEL // 2, groups=DIM)
    x = torch.randn(B, T, DIM, requires_grad=True)

    def plain(x):
        return convolution(x.transpose(1, 2)).transpose(1, 2)

    return both(plain, lambda x: cpu.depthwise_convolution(x, convolution.weight, convolution.bias), x)


def argmax_rows():
    scores = torch.randn(MASKED, V)
    return [lambda: scores.argmax(-1), lambda: cpu.grouped_argmax(scores)]


def floor_rows():
    """The softmax of BiRQ's labels: `score_scale` 20 and temperature 0.5 make logits of 80 cos, and random noise."""
    unit, codebook = (F.normalize(torch.randn(rows, 16), dim=-1) for rows in (MASKED, V))
    logits = 80.0 * unit @ codebook.t() - 2.0 * torch.rand(MASKED, V).log().neg().log()
    top = logits.amax(-1, keepdim=True)
    floored = logits.clone()
    return [lambda: logits.softmax(-1), lambda: cpu.above_denormals(floored, top).softmax(-1)]


def filter_bank_rows():
    log_mel, waveform = LogMel(), torch.randn(B, 10 * 16000)
    frames = waveform.unfold(1, log_mel.window_samples, log_mel.hop_samples)
    lengths, out = [frames.shape[1]] * B, torch.empty(*frames.shape[:2], log_mel.num_mels)
    return [lambda: log_mel.log_mel_of(frames), lambda: cpu.by_blocks(log_mel.log_mel_of, frames, lengths, out)]


def measure(calls, rounds):
    """Median process seconds of each call, in turns."""
    seconds = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, values in zip(calls, seconds):
            begun = time.process_time()
            call()
            values.append(time.process_time() - begun)
    return [statistics.median(values[1:]) for values in seconds]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    rows = {
        "dropout": dropout_rows,
        "attend": attention_rows,
        "depthwise_convolution": convolution_rows,
        "grouped_argmax": argmax_rows,
        "above_denormals": floor_rows,
        "by_blocks": filter_bank_rows,
    }
    print(f"process time, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| modules/cpu.py | plain torch, ms | here, ms | ratio |\n| --- | --- | --- | --- |")
    for name, make in rows.items():
        torch.manual_seed(0)
        plain, ours = measure(make(), rounds)
        print(f"| {name} | {1000 * plain:.2f} | {1000 * ours:.2f} | {ours / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
