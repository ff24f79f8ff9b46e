"""On a CUDA device: codes, losses, gradients, every precision with bad updates, resuming. `python -m pytest -m gpu` runs them.

What they ask was tried on the pretend GPU alone (tests/pretend_gpu/test_checks.py); no run of this file on a GPU is known to us.
"""

import pytest
import torch

from tests.fixtures import device_checks as checks

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
DEVICE = "cuda"


@pytest.fixture(autouse=True, params=["highest", "high"])
def tf32(request):
    """Convolutions in float32 in any case; products in float32, or in TF32 where a test names no precision."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("size, books", [(8192, 1), (4096, 18), (97, 3)])
def test_codes(size, books):
    checks.check_codes(DEVICE, size, books)


@pytest.mark.parametrize("method", checks.MODELS)
def test_losses_and_gradients(tf32, method):
    if tf32 == "highest":
        checks.check_losses_and_gradients(DEVICE, method)
    else:
        checks.check_half_precision_gradients(DEVICE, method, torch.float32, least=0.9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_in_half_precision(dtype):
    checks.check_half_precision_gradients(DEVICE, "best_rq", dtype, least=0.99)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_resuming(repository, tmp_path, precision):
    checks.check_resuming(repository, tmp_path, DEVICE, precision)


@pytest.mark.parametrize("method", ["best_rq", "birq", "latent_rq"])
@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_bad_updates(repository, tmp_path, method, precision):
    checks.check_bad_updates(repository, tmp_path, DEVICE, method, precision)
