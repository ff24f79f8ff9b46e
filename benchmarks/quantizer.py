"""The quantizer's time and memory beside other implementations: 6,400 frames of 320 dimensions, codes of 16.

    python benchmarks/quantizer.py            both sizes: N = 1, V = 8192 and N = 18, V = 4096

Every row runs in a process of its own. "bare" rows are lower bounds that return no codes or miss ties; SpeechBrain's
quantizer has one codebook, so N of them run in turn; best-rq-pytorch uses vector-quantize-pytorch's.
"""

import argparse
import importlib.util
import json
from pathlib import Path

import torch
from measure import MIB, measure, measure_alone, print_table, print_target
from torch.nn import functional as F

FRAMES, INPUT_DIM, CODEBOOK_DIM, BLOCK_ROWS = 6400, 320, 16, 256
SIZES = [(1, 8192), (18, 4096)]  # BEST-RQ; Latent-RQ


def ours(num_codebooks, codebook_size):
    from fairseq_birq.quantizer import RandomProjectionQuantizer

    return RandomProjectionQuantizer(INPUT_DIM, codebook_size, CODEBOOK_DIM, num_codebooks, seed=1).nearest


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


def work(name, num_codebooks, codebook_size):
    """Measure one contender in this process and print the result as JSON."""
    torch.manual_seed(0)
    with torch.no_grad():
        nearest = CONTENDERS[name](num_codebooks, codebook_size)
        x = torch.randn(FRAMES, INPUT_DIM)
        nearest(x[:8])
        print(json.dumps(measure(lambda: nearest(x))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes per row; the median is shown (default: 3)")
    parser.add_argument("--worker", nargs=3, metavar=("NAME", "N", "V"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, num_codebooks, codebook_size = arguments.worker
        return work(name, int(num_codebooks), int(codebook_size))
    for num_codebooks, codebook_size in SIZES:
        rows = {
            name: measure_alone(__file__, name, num_codebooks, codebook_size, rounds=arguments.rounds)
            for name in CONTENDERS
        }
        report(rows, num_codebooks, codebook_size)


def report(rows, num_codebooks, codebook_size):
    title = f"quantizer, {FRAMES} frames, N = {num_codebooks}, V = {codebook_size}, {torch.get_num_threads()} threads"
    print_table(title + " (ratios to bare blocked matmul)", rows, "bare blocked matmul")
    row = rows["fairseq_birq"]
    print_target("extra peak memory <= 16 MiB", row, None, "extra_bytes", 16 * MIB)
    print_target("time <= 2x bare blocked matmul", row, rows["bare blocked matmul"], "seconds", 2)
    print_target("time <= 1/3 of plain", row, rows["plain matmul + argmax"], "seconds", 1 / 3)
    print_target("time <= 1/50 of SpeechBrain's", row, rows["SpeechBrain"], "seconds", 1 / 50)


if __name__ == "__main__":
    main()
