import pytest
import torch

from fairseq_birq.modules.attention import SelfAttention, additive, attention_keep, relative_table
from fairseq_birq.modules.rotary import rotary_table
from fairseq_birq.structs import LayerInputs


@pytest.mark.parametrize("compiling", [False, True])
def test_relative_scores_equal_their_definition(compiling, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    torch.manual_seed(0)
    frames, attention = 6, SelfAttention(8, 2, "relative")
    torch.nn.init.normal_(attention.distance_bias)
    (table,) = relative_table(frames, 8, "cpu")
    query = torch.randn(3, frames, 2, 4)
    scores = attention._distance_scores(query, table, None)
    distances = attention.distance(table).view(-1, 2, 4)
    for t in range(frames):
        for s in range(frames):
            sinusoid = distances[frames - 1 - (t - s)]
            expected = ((query[:, t] + attention.distance_bias) * sinusoid).sum(-1) / 2.0
            torch.testing.assert_close(scores[:, :, t, s], expected)


def test_relative_table_is_of_distances():
    (table,) = relative_table(4, 2, "cpu")
    torch.testing.assert_close(table[:, 0], torch.tensor([3.0, 2, 1, 0, -1, -2, -3]).sin())


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_later_frames_of_the_same_input_give_the_same_output(positions):
    torch.manual_seed(0)
    attention = SelfAttention(8, 2, positions).eval()
    x, table = torch.randn(1, 12, 8), (rotary_table(12, 4, "cpu") if positions == "rotary" else relative_table(12, 8, "cpu"))
    shifted = torch.cat([torch.randn(1, 4, 8), x[:, :8]], dim=1)
    early = attention(x, LayerInputs(None, torch.arange(12)[None, None, None] < 8, table))
    late = attention(shifted, LayerInputs(None, torch.arange(12)[None, None, None] >= 4, table))
    torch.testing.assert_close(late[:, 4:], early[:, :8], atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_keys_that_are_left_out_by_addition_are_left_out(positions):
    torch.manual_seed(0)
    attention = SelfAttention(8, 2, positions, dropout=0.2).train()
    x, table = torch.randn(3, 12, 8), (rotary_table(12, 4, "cpu") if positions == "rotary" else relative_table(12, 8, "cpu"))
    keep = attention_keep(torch.arange(12) >= torch.tensor([[12], [7], [9]]), 12, 0, "cpu")
    outputs = []
    for given in (keep, additive(keep, x.dtype)):
        torch.manual_seed(1)
        outputs.append(attention(x, LayerInputs(None, given, table, clean_rows=1)))
    torch.testing.assert_close(*outputs)
    assert additive(None, x.dtype) is None


def test_every_query_has_a_key():
    padding_mask = torch.arange(9) >= torch.tensor([[9], [2]])
    for window in (0, 1):
        keep = attention_keep(padding_mask, 9, window, "cpu").expand(2, 1, 9, 9)
        assert keep.any(-1).all() and not keep[1, 0, :2, 2:].any()
    assert attention_keep(None, 9, 0, "cpu") is None
