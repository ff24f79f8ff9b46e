"""Hard codes where float32 products may be in TF32 or bfloat16, as `TORCH_ALLOW_TF32_CUBLAS_OVERRIDE` has it in common images."""

import pytest
import torch
from torch.nn import functional as F

from fairseq_birq.frontends.logmel import LogMel
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from tests.fixtures.audio import waveform_batch
from tests.fixtures.models import batch, birq
from tests.fixtures.objective import brute_force


@pytest.fixture(params=["high", "medium"])
def precision(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


def test_a_product_has_the_rounding_of_the_precision(gpu, precision):
    a, b = (torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    product = (a.to(gpu.device) @ b.to(gpu.device)).cpu()
    error = float((product.double() - a.double() @ b.double()).abs().max() / 64**0.5)
    unit = {"high": 2.0**-11, "medium": 2.0**-8}[precision]
    assert 0.1 * unit < error < 4 * unit
    assert torch.equal((a.double().to(gpu.device) @ b.double().to(gpu.device)).cpu(), a.double() @ b.double())


def test_codes_equal_brute_force_where_a_float32_search_finds_others(gpu, precision):
    quantizer = RandomProjectionQuantizer(320, 8192, 16, 1, seed=1)
    x = torch.randn(3000, 320, generator=torch.Generator().manual_seed(0))
    expected = brute_force(quantizer, x)
    quantizer, x = quantizer.to(gpu.device), x.to(gpu.device)
    assert torch.equal(quantizer.nearest(x).cpu(), expected)
    unit = F.normalize(torch.einsum("mi,nid->nmd", x, quantizer.projection), dim=-1)
    in_float32 = torch.bmm(unit, quantizer.codebook.transpose(1, 2)).argmax(-1).t()
    assert (in_float32.cpu() != expected).any()


def test_log_mel_is_the_same(gpu, precision):
    waveform, padding_mask, _ = waveform_batch(1.0, 0.7)
    log_mel = LogMel().to(gpu.device)
    found = log_mel(waveform.to(gpu.device), padding_mask.to(gpu.device)).x.cpu()
    torch.set_float32_matmul_precision("highest")
    assert torch.equal(found, log_mel(waveform.to(gpu.device), padding_mask.to(gpu.device)).x.cpu())


def test_a_models_codes_of_the_raw_input_are_those_of_the_cpu(gpu, precision):
    """While its hidden states, computed in that precision, differ."""
    given = batch([1.5, 1.1, 1.3])

    def term(device):
        model = birq().to(device)
        model.set_num_updates(1)
        return model(**{key: value.to(device) for key, value in given.items()}).terms["raw_input"]

    found, on_cpu = term(gpu.device), term("cpu")
    torch.set_float32_matmul_precision("highest")
    exact = term(gpu.device)
    assert torch.equal(found.codes.cpu(), on_cpu.codes) and torch.equal(exact.codes.cpu(), on_cpu.codes)
    assert not torch.equal(found.loss_sum.cpu(), exact.loss_sum.cpu())
