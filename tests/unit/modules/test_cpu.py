import pytest
import torch
from torch.nn import functional as F

from fairseq_birq.modules.cpu import (
    above_denormals,
    attend,
    by_blocks,
    depthwise_convolution,
    dropout,
    group_size,
    grouped_argmax,
)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(100, 1003, requires_grad=True)
    y = dropout(x, p)
    assert abs((y == 0).float().mean().item() - p) < 0.01 and abs(y.mean().item() - 1) < 0.02
    assert set(y.unique().tolist()) == {0.0, F.dropout(torch.ones(100), p).max().item()}
    y.sum().backward()
    assert torch.equal(x.grad, y)
    columns = (y == 0).float()
    assert abs(torch.corrcoef(torch.stack([columns[:, :-1].flatten(), columns[:, 1:].flatten()]))[0, 1]) < 0.02


@pytest.mark.parametrize("kind", ["none", "bool", "float"])
def test_attention_with_dropout_is_attention_on_average(kind):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 6, 4)
    keep = {"none": None, "bool": torch.rand(2, 1, 6, 6) > 0.3, "float": torch.randn(2, 2, 6, 6)}[kind]
    if kind == "bool":
        keep |= torch.eye(6, dtype=torch.bool)
    exact = F.scaled_dot_product_attention(query, key, value, attn_mask=keep)
    mean = torch.stack([attend(query, key, value, keep, 0.2) for _ in range(3000)]).mean(0)
    torch.testing.assert_close(mean, exact, atol=0.08, rtol=0)
    torch.testing.assert_close(attend(query, key, value, keep, 1e-9), exact)


@pytest.mark.parametrize("size, group", [(1, 1), (97, 97), (256, 128), (8192, 128), (131, 1), (300, 100)])
def test_argmax_in_groups_is_argmax(size, group):
    scores = torch.randn(50, size, generator=torch.Generator().manual_seed(size))
    assert group_size(size) == group and torch.equal(grouped_argmax(scores), scores.argmax(-1))


def test_depthwise_convolution_is_torch_s_conv1d():
    depthwise = torch.nn.Conv1d(6, 6, 5, padding=2, groups=6)
    x = torch.randn(2, 11, 6, requires_grad=True)
    got = depthwise_convolution(x, depthwise.weight, depthwise.bias)
    expected = depthwise(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(got, expected)
    weights = torch.randn(2, 11, 6)
    for parts in zip(*(torch.autograd.grad((y * weights).sum(), [x, *depthwise.parameters()]) for y in (got, expected))):
        torch.testing.assert_close(*parts)


def test_no_logit_is_so_low_that_its_softmax_is_denormal():
    logits = torch.tensor([[0.0, -50.0, -95.0], [7.0, -90.0, -10.0]])
    y = above_denormals(logits.clone(), logits.amax(-1, keepdim=True)).softmax(-1)
    assert (logits.softmax(-1) < torch.finfo(torch.float32).tiny).any() and (y >= torch.finfo(torch.float32).tiny).all()
    assert (y - logits.softmax(-1)).abs().max() < 1e-25


def test_blocks_of_frames_are_the_whole_and_only_what_is_no_padding():
    frames, lengths = torch.randn(3, 1200, 4), [1200, 513, 0]
    out = by_blocks(torch.square, frames, lengths, out=torch.zeros(3, 1200, 4))
    for row, length in enumerate(lengths):
        assert torch.equal(out[row, :length], frames[row, :length].square()) and not out[row, length:].any()
