"""The blocked cross-entropy against torch's own, its gradients, and its memory."""

import pytest
import torch
from torch.nn import functional as F

from fairseq_birq.objective.losses import masked_code_loss
from tests.fixtures import objective


def example(frames=37, dim=8, books=3, size=50, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()
        for shape in ((frames, dim), (books, size, dim), (books, size))
    )
    return hidden, weight, bias, torch.randint(0, size, (frames, books), generator=generator)


def hard_loss(hidden, weight, bias, codes, block_bytes):
    total, terms = masked_code_loss(hidden, weight, bias, {"raw_input": codes}, {}, block_bytes)
    return total, terms["raw_input"]


def reference(hidden, weight, bias, codes):
    logits = torch.einsum("md,nvd->mnv", hidden, weight) + bias
    return F.cross_entropy(logits.transpose(1, 2), codes, reduction="none").sum(0), logits


@pytest.mark.parametrize("block_bytes", [1, 2000, 1 << 20])
def test_loss_accuracy_and_histogram_equal_torch(block_bytes):
    hidden, weight, bias, codes = example()
    total, term = hard_loss(hidden, weight, bias, codes, block_bytes)
    expected, logits = reference(hidden, weight, bias, codes)
    assert torch.allclose(term.loss_sum, expected)
    assert torch.allclose(total, expected.mean())
    assert torch.equal(term.correct.long(), (logits.argmax(-1) == codes).sum(0))
    assert torch.equal(term.histogram, torch.stack([torch.bincount(column, minlength=50) for column in codes.t()]))


def test_gradients_equal_torch():
    inputs = example()
    total, _ = hard_loss(*inputs, block_bytes=2000)
    ours = torch.autograd.grad(3.0 * total, inputs[:3])
    theirs = torch.autograd.grad(3.0 * reference(*inputs)[0].mean(), inputs[:3])
    for our, their in zip(ours, theirs):
        assert torch.allclose(our, their)


def test_gradients_agree_with_finite_differences():
    hidden, weight, bias, codes = example(frames=5, dim=3, books=2, size=7)
    assert torch.autograd.gradcheck(lambda *x: hard_loss(*x, codes, 100)[0], (hidden, weight, bias))


def test_nothing_masked_gives_a_finite_zero_that_can_be_differentiated():
    hidden, weight, bias, codes = example(frames=0)
    total, term = hard_loss(hidden, weight, bias, codes, 1000)
    total.backward()
    assert total.item() == 0 and term.loss_sum.tolist() == [0, 0, 0]
    assert weight.grad.abs().sum() == 0


def test_soft_labels_are_the_same_under_autocast():
    """The head computes in half precision there, the labels and their gradient do not."""
    hidden, weight, bias, unit, codebook, _ = objective.example(frames=50, size=40, code_dim=8)
    hidden, weight, bias, unit = (tensor.detach().float().requires_grad_() for tensor in (hidden, weight, bias, unit))

    def computed(hidden):
        soft = objective.soft_codes(unit, codebook.float())
        total, terms = masked_code_loss(hidden, weight, bias, {"own_layer": soft}, {}, 1 << 20)
        return terms["own_layer"], torch.autograd.grad(total, unit)[0]

    expected, gradient = computed(0.0 * hidden)  # equal logits in any precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, cast_gradient = computed(0.0 * hidden)
    for name in ("codes", "entropy_sum", "sampled_nearest"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert gradient.abs().max() > 1e-3 and torch.allclose(cast_gradient, gradient, rtol=1e-4, atol=1e-6)


def test_loss_at_init_is_close_to_ln_v():
    from fairseq_birq.objective.heads import CodebookHeads

    heads = CodebookHeads(64, 1024, 2)
    hidden = F.layer_norm(torch.randn(500, 64), (64,))
    _, term = hard_loss(hidden, heads.weight, heads.bias, torch.randint(0, 1024, (500, 2)), 1 << 20)
    assert torch.allclose(term.loss_sum / 500, torch.tensor(1024.0).log().double(), atol=0.05)


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.02), (torch.float16, 0.002)])
def test_half_precision_is_close_to_float32(dtype, tolerance):
    hidden, weight, bias, codes = example(frames=200, dim=32, size=64, dtype=torch.float32)
    total, _ = hard_loss(hidden, weight, bias, codes, 10000)
    narrow = [tensor.detach().to(dtype).requires_grad_() for tensor in (hidden, weight, bias)]
    narrow_total, _ = hard_loss(*narrow, codes, 10000)
    narrow_total.backward()
    assert narrow_total.item() == pytest.approx(total.item(), rel=tolerance)
    assert all(tensor.grad.dtype == dtype and tensor.grad.isfinite().all() for tensor in narrow)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast_total, _ = hard_loss(hidden, weight, bias, codes, 10000)
    assert cast_total.item() == pytest.approx(total.item(), rel=0.02)
