import pytest
import torch
from torch.nn import functional as F

from fairseq_birq.encoders.conformer import ConformerEncoder, ConvolutionModule
from fairseq_birq.errors import UserError
from fairseq_birq.modules.row_dropout import RowDropout, dropout


def test_depthwise_convolution_is_torch_s_conv1d():
    module = ConvolutionModule(6, kernel=5, dropout=0.0)
    x = torch.randn(2, 11, 6, requires_grad=True)
    got, expected = module._convolve(x), module.depthwise(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(got, expected)
    weights = torch.randn(2, 11, 6)
    for parts in zip(*(torch.autograd.grad((y * weights).sum(), [x, *module.depthwise.parameters()]) for y in (got, expected))):
        torch.testing.assert_close(*parts)


def test_convolution_kernels_are_odd():
    with pytest.raises(UserError, match="conv_kernel"):
        ConformerEncoder(num_layers=1, dim=8, ffn_dim=8, num_heads=2, conv_kernel=4)


@pytest.mark.parametrize("layers,reach", [(1, 3), (2, 6)])
def test_an_attention_window_limits_what_a_frame_sees(layers, reach):
    encoder = ConformerEncoder(layers, dim=8, ffn_dim=16, num_heads=2, conv_kernel=1, attention_window=3).eval()
    x = torch.randn(1, 20, 8, requires_grad=True)
    encoder(x, torch.zeros(1, 20, dtype=torch.bool)).last[0, 10].square().sum().backward()
    seen = (x.grad[0] != 0).any(-1).nonzero().flatten().tolist()
    assert seen == list(range(10 - reach, 10 + reach + 1))


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


def test_row_dropout_leaves_the_last_rows_alone():
    x = torch.ones(4, 50)
    y = RowDropout(0.5).train()(x, clean_rows=2)
    assert torch.equal(y[2:], x[2:]) and (y[:2] == 0).any()
    assert torch.equal(RowDropout(0.5).eval()(x), x)
