"""The quantizer on a device that is not the CPU: the same codes, no wait of the host, few launches, bounded memory."""

import pytest
import torch

from fairseq_birq.objective import quantizer as module
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from tests.fixtures.objective import brute_force
from tests.fixtures.pretend_gpu import PretendGpu


def search(size, books, rows, dtype=torch.float32):
    """Codes on the pretend GPU, by brute force, and on the CPU; what was recorded."""
    quantizer = RandomProjectionQuantizer(40, size, 16, books, seed=3)
    x = torch.randn(2, rows // 2, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected, on_cpu = brute_force(quantizer, x), quantizer.nearest(x)
    with PretendGpu() as gpu:
        quantizer, x = quantizer.to(gpu.device), x.to(gpu.device)
        with gpu.recording() as record:
            codes = quantizer.nearest(x)
        codes = codes.cpu()
    return codes, expected, on_cpu, record


@pytest.mark.parametrize("size, books", [(8192, 1), (512, 18), (97, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_codes_equal_brute_force_and_the_host_waits_for_nothing(size, books, dtype):
    codes, expected, on_cpu, record = search(size, books, rows=300, dtype=dtype)
    assert torch.equal(codes, expected) and torch.equal(codes, on_cpu)
    assert record.totals()["waits"] == record.totals()["mismatches"] == 0
    assert record.totals()["launches"] <= 20


def test_no_rows_have_no_codes():
    codes, expected, _, _ = search(97, 2, rows=0)
    assert codes.shape == expected.shape == (2, 0, 2)


@pytest.mark.parametrize("rows_at_once", [1, 7, 64])
def test_scores_are_alive_in_blocks(monkeypatch, rows_at_once):
    monkeypatch.setattr(module, "_ACCELERATOR_BYTES", 8 * 97 * 2 * rows_at_once)
    sizes, bmm = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: sizes.append(a.shape[1]) or bmm(a, b))
    codes, expected, _, _ = search(97, 2, rows=64)
    assert torch.equal(codes, expected)
    assert max(sizes) == rows_at_once and sum(sizes) == 64
