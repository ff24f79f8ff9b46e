import pytest
import torch
from torch.nn import functional as F

from fairseq_birq.modules.cpu import attend, depthwise_convolution, dropout, group_size, grouped_argmax


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
