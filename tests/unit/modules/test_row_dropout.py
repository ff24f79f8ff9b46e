import pytest
import torch

from fairseq_birq.modules.row_dropout import RowDropout


def test_row_dropout_leaves_the_last_rows_alone():
    x = torch.ones(4, 50)
    y = RowDropout(0.5).train()(x, clean_rows=2)
    assert torch.equal(y[2:], x[2:]) and (y[:2] == 0).any()
    assert torch.equal(RowDropout(0.5).eval()(x), x)


def output_and_gradients(x, change, function):
    torch.manual_seed(3)
    x, change = x.detach().requires_grad_(), change.detach().requires_grad_()
    y = function(x, change)
    y.square().sum().backward()
    return y, x.grad, change.grad


@pytest.mark.parametrize("clean_rows", [0, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_added_is_the_sum_with_the_same_draws(clean_rows, dtype):
    x, change = torch.randn(2, 5, 7, 6, dtype=torch.float64).to(dtype)
    dropout = RowDropout(0.25).train()
    ours = output_and_gradients(x, change, lambda x, change: dropout.added(x, change, clean_rows, scale=0.5))
    plain = output_and_gradients(x.double(), change.double(), lambda x, change: x + 0.5 * dropout(change, clean_rows))
    for found, expected in zip(ours, plain):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)
    assert (ours[2][: 5 - clean_rows] == 0).any() == (clean_rows < 5)


def test_a_byte_per_noisy_value_is_kept_for_the_gradient():
    kept = []
    x, change = torch.randn(2, 5, 7, 6, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        RowDropout(0.25).train().added(x, change, 2)
    assert [(tuple(tensor.shape), tensor.element_size()) for tensor in kept] == [((3, 7, 6), 1)]


def test_half_precision_is_added_to_float32():
    x, change = torch.randn(2, 5, 7, 6)
    dropout = RowDropout(0.25).train()
    ours = output_and_gradients(x, change.half(), dropout.added)
    plain = output_and_gradients(x, change.half(), lambda x, change: x + dropout(change))
    for found, expected in zip(ours, plain):
        assert torch.equal(found, expected) and found.dtype == expected.dtype


def test_nothing_is_dropped_in_eval_mode():
    x, change = torch.randn(2, 5, 7, 6)
    torch.testing.assert_close(RowDropout(0.25).eval().added(x, change, scale=0.5), x + 0.5 * change)
