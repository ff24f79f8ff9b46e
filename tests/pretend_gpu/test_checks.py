"""What tests/runs/test_gpu.py asks of a CUDA device, asked of the pretend one."""

import pytest
import torch

from tests.fixtures import device_checks as checks


@pytest.fixture(autouse=True)
def mixes_no_devices(gpu):
    with gpu.recording() as record:
        yield
    assert record.lines("mismatches") == {} and record.totals()["launches"] > 0


@pytest.mark.parametrize("size, books", [(8192, 1), (97, 18)])
def test_codes(gpu, size, books):
    checks.check_codes(gpu.device, size, books)


@pytest.mark.parametrize("method", checks.MODELS)
def test_losses_and_gradients(gpu, method):
    checks.check_losses_and_gradients(gpu.device, method)


def test_gradients_in_half_precision(gpu):
    checks.check_half_precision_gradients(gpu.device, "best_rq", torch.bfloat16, least=0.99)


def slow(*precisions):
    return [pytest.param(precision, marks=pytest.mark.slow) for precision in precisions]


@pytest.mark.parametrize("precision", ["bf16", *slow("fp32", "fp16")])
def test_resuming(gpu, repository, tmp_path, precision):
    checks.check_resuming(repository, tmp_path, gpu.device, precision)


@pytest.mark.parametrize("precision", ["bf16", "fp16", *slow("fp32", "memory_efficient_bf16")])
def test_bad_updates(gpu, repository, tmp_path, precision):
    checks.check_bad_updates(repository, tmp_path, gpu.device, "latent_rq" if precision == "bf16" else "best_rq", precision)
