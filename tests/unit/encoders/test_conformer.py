import pytest
import torch

from fairseq_birq.encoders.conformer import ConformerEncoder
from fairseq_birq.errors import UserError


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
