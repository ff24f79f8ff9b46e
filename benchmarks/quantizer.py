"""The quantizer's time and memory beside other implementations: 6,400 frames of 320 dimensions, codes of 16.

    python benchmarks/quantizer.py     both sizes: N = 1, V = 8192 and N = 18, V = 4096; under three minutes
    python benchmarks/quantizer.py --beside OLD_CHECKOUT     the quantizer of another checkout too, version 0.1.0 or later

Times in turns, memory in a process each. "bare" rows are lower bounds that return no codes or miss ties; SpeechBrain's
quantizer has one codebook, so N of them run in turn; best-rq-pytorch uses vector-quantize-pytorch's.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import torch
from measure import MIB, measure_rows, print_table, print_target, work
from torch.nn import functional as F

FRAMES, INPUT_DIM, CODEBOOK_DIM, BLOCK_ROWS = 6400, 320, 16, 256
SIZES = [(1, 8192), (18, 4096)]  # BEST-RQ; Latent-RQ


def ours(num_codebooks, codebook_size):
    from fairseq_birq.objective.quantizer import RandomProjectionQuantizer

    return RandomProjectionQuantizer(INPUT_DIM, codebook_size, CODEBOOK_DIM, num_codebooks, seed=1).nearest


def of_checkout(folder):
    """As `ours`, of the package in another folder; its modules are put aside again."""

    def build(num_codebooks, codebook_size):
        own = _taken_out()
        sys.path.insert(0, str(folder))
        try:
            try:
                module = importlib.import_module("fairseq_birq.objective.quantizer")
            except ModuleNotFoundError:  # version 0.1.0
                module = importlib.import_module("fairseq_birq.quantizer")
        finally:
            sys.path.remove(str(folder))
            _taken_out()
            sys.modules.update(own)
        return module.RandomProjectionQuantizer(INPUT_DIM, codebook_size, CODEBOOK_DIM, num_codebooks, seed=1).nearest

    return build


def _taken_out():
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "fairseq_birq"}


def speechbrain(num_codebooks, codebook_size):
    quantizer_class = _speechbrain_quantizer()
    quantizers = [quantizer_class(INPUT_DIM, CODEBOOK_DIM, codebook_size) for _ in range(num_codebooks)]
    return lambda x: [quantizer(x[None]) for quantizer in quantizers]


def _speechbrain_quantizer():
    """From its file alone: the package imports torchaudio, whose wheel needs CUDA libraries."""
    package = importlib.util.find_spec("speechbrain")
    if package is None:
        raise ImportError("speechbrain is not installed")
    path = Path(package.origin).parent / "nnet" / "quantisers.py"
    spec = importlib.util.spec_from_file_location("speechbrain_quantisers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RandomProjectionQuantizer


def best_rq_pytorch(num_codebooks, codebook_size):
    from vector_quantize_pytorch import RandomProjectionQuantizer

    quantizer = RandomProjectionQuantizer(
        dim=INPUT_DIM, codebook_size=codebook_size, codebook_dim=CODEBOOK_DIM, num_codebooks=num_codebooks
    )
    return lambda x: quantizer(x[None])


def _random_unit(num_codebooks, codebook_size):
    projections = torch.randn(num_codebooks, INPUT_DIM, CODEBOOK_DIM) / INPUT_DIM**0.5
    codebooks = F.normalize(torch.randn(num_codebooks, codebook_size, CODEBOOK_DIM), dim=-1)
    return projections, codebooks


def plain(num_codebooks, codebook_size):
    projections, codebooks = _random_unit(num_codebooks, codebook_size)

    def nearest(x):
        unit = F.normalize(torch.einsum("mi,nid->nmd", x, projections), dim=-1)
        return torch.matmul(unit, codebooks.transpose(1, 2)).argmax(-1)

    return nearest


def bare_blocks(num_codebooks, codebook_size):
    return _blocks(num_codebooks, codebook_size, with_argmax=False)


def bare_blocks_argmax(num_codebooks, codebook_size):
    return _blocks(num_codebooks, codebook_size, with_argmax=True)


def _blocks(num_codebooks, codebook_size, with_argmax):
    projections, codebooks = _random_unit(num_codebooks, codebook_size)
    scores = torch.empty(BLOCK_ROWS, codebook_size)

    def nearest(x):
        codes = []
        for projection, codebook in zip(projections, codebooks):
            unit = F.normalize(x @ projection, dim=-1)
            for block in unit.split(BLOCK_ROWS):
                torch.mm(block, codebook.t(), out=scores[: block.shape[0]])
                if with_argmax:
                    codes.append(scores[: block.shape[0]].argmax(-1))
        return codes

    return nearest


CONTENDERS = {
    "fairseq_birq": ours,
    "bare blocked matmul": bare_blocks,
    "bare blocked matmul + argmax": bare_blocks_argmax,
    "plain matmul + argmax": plain,
    "best-rq-pytorch": best_rq_pytorch,
    "SpeechBrain": speechbrain,
}


def make(name, num_codebooks, codebook_size, frames):
    """A call of one contender on all frames, after one on a few that loads every library."""
    torch.manual_seed(0)
    build = CONTENDERS[name] if name in CONTENDERS else of_checkout(name)
    nearest = build(num_codebooks, codebook_size)
    x = torch.randn(frames, INPUT_DIM)
    nearest(x[:8])
    return lambda: nearest(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="turns per row, 2 where one takes over 1 s (default: 9)")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames to quantize (default: 6400)")
    parser.add_argument("--beside", metavar="FOLDER", help="another checkout of this repository, measured too")
    parser.add_argument("--worker", nargs="+", metavar=("KIND", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, *names = arguments.worker[:-4]
        num_codebooks, codebook_size, frames, rounds = map(int, arguments.worker[-4:])
        with torch.no_grad():
            turns = dict(rounds=rounds, slow_rounds=2, slow_seconds=1.0)
            return work(kind, names, lambda name: make(name, num_codebooks, codebook_size, frames), **turns)
    beside = arguments.beside and str(Path(arguments.beside).resolve())
    if beside and not (Path(beside) / "fairseq_birq" / "__init__.py").exists():
        parser.error(f"--beside {arguments.beside}: no fairseq_birq/ there")
    for size in SIZES:
        rows = measure_rows(__file__, [*CONTENDERS, *([beside] if beside else [])], *size, arguments.frames, arguments.rounds)
        report(rows, *size, arguments.frames)


def report(rows, num_codebooks, codebook_size, frames):
    title = f"quantizer, {frames} frames, N = {num_codebooks}, V = {codebook_size}, {torch.get_num_threads()} threads"
    print_table(title + " (ratios to bare blocked matmul)", rows, "bare blocked matmul")
    row = rows["fairseq_birq"]
    print_target("extra peak memory <= 16 MiB", row, None, "extra_bytes", 16 * MIB)
    print_target("time <= 2x bare blocked matmul", row, rows["bare blocked matmul"], "seconds", 2)
    print_target("time <= 1/3 of plain", row, rows["plain matmul + argmax"], "seconds", 1 / 3)
    print_target("time <= 1/50 of SpeechBrain's", row, rows["SpeechBrain"], "seconds", 1 / 50)


if __name__ == "__main__":
    main()
