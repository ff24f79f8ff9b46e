"""What `model.compile_layers` costs and gives: time of training and of probes with and without it, over a corpus' real lengths.

    python benchmarks/compiled.py --manifest train.tsv                          4 layers x 256
    python benchmarks/compiled.py --manifest train.tsv --method best_rq --precision bf16 --device cuda --dim 768

Batches of the manifest's lengths, of noise, as fairseq makes them: of alike lengths, at most `--max-seconds` together, in random
order. Training: forward and backward of a whole model. Probes: the encoder in eval mode. With and without compiled layers in
turns, batch by batch; processor seconds of the process and its compilers (on a GPU: seconds of the wall), and the ratios'
median over batches without a compilation. Nothing is taken from an earlier run's cache. Says how often layers were compiled,
how long that took, and after how many batches it pays.
"""

import argparse
import json
import os
import platform
import random
import resource
import statistics
import time
from functools import partial
from pathlib import Path

# before torch is loaded: compilers as children that are waited for, so that their time counts, and no cache
os.environ.update(TORCHINDUCTOR_COMPILE_THREADS="1", TORCHINDUCTOR_FORCE_DISABLE_CACHES="1")

import torch  # noqa: E402

from fairseq_birq.model import BirqModel  # noqa: E402

SAMPLE_RATE = 16000
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main(argv=None):
    arguments = parser().parse_args(argv)
    torch.manual_seed(arguments.seed)
    batches = make_batches(read_lengths(arguments.manifest), arguments)
    result = {"machine": platform.machine(), "computed_on": device_name(arguments.device), "torch": torch.__version__}
    result.update(vars(arguments), batches=len(batches), lengths=len({max(batch) for batch in batches}))
    for kind in arguments.kinds:
        result[kind] = measure(kind, batches, arguments)
        print(line(kind, result[kind]), flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n")


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def read_lengths(manifest) -> list:
    """Samples of a manifest's utterances of 0.5 to 15.6 s."""
    rows = [int(row.split("\t")[1]) for row in Path(manifest).read_text().splitlines()[1:]]
    return [samples for samples in rows if 0.5 <= samples / SAMPLE_RATE <= 15.6]


def make_batches(lengths, arguments) -> list:
    """Lists of samples, so many as `--batches` says."""
    draw = random.Random(arguments.seed)
    groups, group = [], []
    for samples in sorted(lengths):
        if group and samples * (len(group) + 1) > arguments.max_seconds * SAMPLE_RATE:
            groups.append(group)
            group = []
        group.append(samples)
    groups.append(group)
    draw.shuffle(groups)
    return groups[: arguments.batches]


def measure(kind, batches, arguments) -> dict:
    """Compilations and times of one kind of work."""
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    plain, compiled = (build(arguments, compiles) for compiles in (False, True))
    compiled.load_state_dict(plain.state_dict())
    seconds, counts = {"plain": [], "compiled": []}, []
    for number, lengths in enumerate(batches):
        inputs = noise(lengths, number, arguments.device)
        for name, model in (("plain", plain), ("compiled", compiled)):
            seconds[name].append(timed(partial(work, kind, model, inputs), arguments.device))
        counts.append(counters["stats"]["unique_graphs"])
    return summary(seconds, counts)


def summary(seconds, counts) -> dict:
    """Batches in which something was compiled are left out of the ratio, and are what compilation cost."""
    steady = [index for index in range(1, len(counts)) if counts[index] == counts[index - 1]]
    cost = sum(seconds["compiled"][i] - seconds["plain"][i] for i in range(len(counts)) if i not in steady)
    found = {"compilations": counts[-1], "last_compilation_at_batch": max(set(range(len(counts))) - set(steady)) + 1}
    found.update(compilation_seconds=cost, steady_batches=len(steady))
    if steady:
        found["ratio"] = statistics.median(seconds["compiled"][i] / seconds["plain"][i] for i in steady)
        found["plain_seconds"], found["compiled_seconds"] = (
            statistics.median(seconds[name][i] for i in steady) for name in ("plain", "compiled")
        )
        saved = found["plain_seconds"] - found["compiled_seconds"]
        found["pays_after_batches"] = round(cost / saved) if saved > 0 else None
    return found


def build(arguments, compiles):
    encoder = dict(num_layers=arguments.layers, dim=arguments.dim, ffn_dim=4 * arguments.dim, num_heads=arguments.heads)
    encoder.update(dropout=arguments.dropout, attention_dropout=arguments.dropout)
    own = {"layers": [max(1, round(0.7 * arguments.layers))], "shared_head": True, "shared_codebook": True}
    use = ["raw_input"] if arguments.method == "best_rq" else ["raw_input", "own_layer"]
    settings = {"encoder": encoder, "mask": {"start_prob": 0.013}, "targets": {"use": use, "own_layer": own}}
    model = BirqModel.build_model({**settings, "compile_layers": compiles})
    return model.to(PRECISIONS[arguments.precision]).to(arguments.device)


def noise(lengths, seed, device):
    wave = 0.1 * torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    padding_mask = torch.arange(wave.shape[1]) >= torch.tensor(lengths)[:, None]
    return [tensor.to(device) for tensor in (wave, padding_mask, torch.arange(len(lengths)))]


def work(kind, model, inputs):
    if kind == "training":
        model.train()
        model(*inputs).loss.backward()
        model.zero_grad()
        return
    model.eval()
    with torch.no_grad():
        model.speech_encoder(*inputs[:2])


def timed(call, device) -> float:
    clock = processor_seconds if device == "cpu" else time.perf_counter
    start = clock()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def processor_seconds() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def line(kind, found) -> str:
    if "ratio" not in found:
        return f"{kind}: {found['compilations']} compilations, none of the batches was without one"
    pays, ms = found["pays_after_batches"], (f"{1e3 * found[f'{name}_seconds']:.0f}" for name in ("plain", "compiled"))
    return (
        f"{kind}: ratio {found['ratio']:.3f} ({' -> '.join(ms)} ms a batch), "
        f"{found['compilations']} compilations, the last at batch {found['last_compilation_at_batch']}, "
        f"{found['compilation_seconds']:.0f} s; {'never pays' if pays is None else f'pays after {pays} batches'}"
    )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True, help="a .tsv, for its lengths")
    parser.add_argument("--kinds", nargs="+", default=["training", "probes"], choices=["training", "probes"])
    parser.add_argument("--method", default="birq", choices=["best_rq", "birq"])
    parser.add_argument("--precision", default="fp32", choices=list(PRECISIONS))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--max-seconds", type=float, default=80.0, help="of audio in a batch (80)")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="also written there")
    return parser


if __name__ == "__main__":
    main()
