"""The contract of every encoder in the registry, for each of their variants."""

import pytest
import torch

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.config import BirqConfig
from fairseq_birq.encoders import ENCODERS
from fairseq_birq.errors import UserError
from fairseq_birq.settings import from_dict

DIM, NUM_LAYERS, LENGTHS = 16, 3, [23, 14, 9]
VARIANTS = {
    **{name: (name, {}) for name in ENCODERS},
    "conformer-relative": ("conformer", {"positions": "relative"}),
    "conformer-window": ("conformer", {"attention_window": 3}),
    "conformer-causal": ("conformer", {"causal": True}),
    "conformer-relative-window": ("conformer", {"positions": "relative", "attention_window": 3}),
}


def build(variant, **settings):
    name, own = VARIANTS[variant]
    torch.manual_seed(0)
    conv = {"conv_kernel": 7} if name == "conformer" else {}
    encoder = ENCODERS[name](num_layers=NUM_LAYERS, dim=DIM, ffn_dim=32, num_heads=2, **conv, **own, **settings)
    for parameter in encoder.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return encoder


def batch(lengths=LENGTHS, seed=0):
    lengths = torch.tensor(lengths)[:, None]
    x = torch.randn(len(lengths), int(lengths.max()), DIM, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(x.shape[1]) >= lengths


def assert_layers_close(got, expected, atol=1e-5):
    assert len(got) == len(expected)
    for got_layer, expected_layer in zip(got, expected):
        torch.testing.assert_close(got_layer, expected_layer, atol=atol, rtol=0)


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


@torch.no_grad()
def test_all_layers_are_returned_and_differ(variant):
    encoder, (x, padding_mask) = build(variant).eval(), batch()
    encoded = encoder(x, padding_mask)
    assert [layer.shape for layer in encoded.layers] == [x.shape] * NUM_LAYERS
    assert encoded.subsampled is x and encoded.padding_mask is padding_mask
    assert (encoder.dim, encoder.num_layers) == (DIM, NUM_LAYERS)
    assert (encoded.layers[0] - encoded.layers[1]).abs().max() > 1e-2


@torch.no_grad()
def test_a_padded_batch_gives_what_each_utterance_gives_alone(variant):
    encoder, (x, padding_mask) = build(variant).eval(), batch()
    layers = encoder(x.masked_fill(padding_mask[..., None], 50.0), padding_mask).layers
    for row, length in enumerate(LENGTHS):
        alone = encoder(x[row : row + 1, :length], padding_mask[row : row + 1, :length]).layers
        assert_layers_close([layer[row : row + 1, :length] for layer in layers], alone)


def test_gradients_of_valid_outputs_do_not_reach_padded_inputs(variant):
    encoder, (x, padding_mask) = build(variant, dropout=0.0, attention_dropout=0.0).train(), batch()
    x.requires_grad_()
    encoder(x, padding_mask).last[~padding_mask].square().sum().backward()
    assert (x.grad[padding_mask] == 0).all() and (x.grad[~padding_mask] != 0).any(-1).all()


@torch.no_grad()
def test_a_truncated_run_is_a_prefix_of_the_full_run(variant):
    encoder, (x, padding_mask) = build(variant).eval(), batch()
    assert_layers_close(encoder(x, padding_mask, num_layers=2).layers, encoder(x, padding_mask).layers[:2], atol=0)


@torch.no_grad()
def test_a_run_in_two_parts_is_the_full_run(variant):
    encoder, (x, padding_mask) = build(variant).eval(), batch()
    first = encoder.run_layers(x, padding_mask, stop=1)
    second = encoder.run_layers(first[-1], padding_mask, start=1)
    assert_layers_close(first + second, encoder(x, padding_mask).layers, atol=0)


@pytest.mark.parametrize("layer_dropout", [0.0, 0.5])
def test_clean_rows_are_as_in_eval_mode_and_the_others_are_not(variant, layer_dropout):
    encoder, (x, padding_mask) = build(variant, dropout=0.2, activation_dropout=0.2, layer_dropout=layer_dropout), batch()
    expected = encoder.eval().run_layers(x[1:], padding_mask[1:])
    x = x.requires_grad_()
    for _ in range(4):
        layers = encoder.train().run_layers(x, padding_mask, clean_rows=2)
        valid = ~padding_mask[1:]
        assert_layers_close([layer[1:][valid] for layer in layers], [layer[valid] for layer in expected])
    assert not torch.allclose(layers[-1][0], encoder.eval().run_layers(x[:1], padding_mask[:1])[-1][0], atol=1e-2)
    layers[-1].square().sum().backward()
    assert (x.grad[~padding_mask] != 0).any(-1).all()


def test_all_rows_clean_and_no_row_clean(variant):
    encoder, (x, padding_mask) = build(variant, dropout=0.2), batch()
    expected = encoder.eval()(x, padding_mask).layers
    assert_layers_close(encoder.train().run_layers(x, padding_mask, clean_rows=3), expected)
    assert not torch.allclose(encoder.run_layers(x, padding_mask)[-1], expected[-1], atol=1e-2)


def test_a_forward_in_training_follows_torch_s_generator(variant):
    encoder, (x, padding_mask) = build(variant, dropout=0.2, layer_dropout=0.5).train(), batch()
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(encoder(x, padding_mask).last)
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@torch.no_grad()
def test_layer_dropout_skips_the_share_of_layers_it_says():
    encoder, (x, padding_mask) = build("conformer", layer_dropout=0.3).train(), batch([3])
    skipped = 0
    for _ in range(200):
        hidden = [x, *encoder(x, padding_mask).layers]
        skipped += sum(torch.equal(before, after) for before, after in zip(hidden, hidden[1:]))
    assert 0.2 < skipped / (200 * NUM_LAYERS) < 0.4
    assert not any(torch.equal(a, b) for a, b in zip(hidden, encoder.eval()(x, padding_mask).layers))


@torch.no_grad()
def test_rows_without_any_frame_are_finite(variant):
    encoder = build(variant).eval()
    x, padding_mask = batch([5, 0, 5])
    assert encoder(x, padding_mask).last.isfinite().all()
    assert encoder(x[:, :0], padding_mask[:, :0]).last.shape == (3, 0, DIM)


def test_finite_in_bfloat16(variant):
    encoder, (x, padding_mask) = build(variant), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = encoder.train()(x, padding_mask).last.float().square().mean()
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert encoder.bfloat16()(x.bfloat16(), padding_mask).last.isfinite().all()


@pytest.mark.parametrize("clean_rows", [0, 1])
def test_checkpointed_activations_give_the_same_gradients(variant, clean_rows):
    x, padding_mask = batch()
    x.requires_grad_()
    results = []
    for checkpoint_activations in (False, True):
        encoder = build(variant, dropout=0.2, layer_dropout=0.3, checkpoint_activations=checkpoint_activations).train()
        torch.manual_seed(5)
        layers = encoder.run_layers(x, padding_mask, clean_rows=clean_rows)
        sum(layer.square().mean() for layer in layers).backward()
        gradients = [x.grad] + [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
        x.grad = None
        assert len(gradients) > NUM_LAYERS
        results.append((gradients, [buffer.clone() for buffer in encoder.buffers()]))
    for got, expected in zip(*results):
        assert_layers_close(got, expected)


@pytest.mark.parametrize("name", ENCODERS)
def test_heads_that_do_not_divide_the_width_are_refused(name):
    encoder = {"name": name, "num_layers": 1, "dim": 16, "ffn_dim": 32, "num_heads": 3}
    cfg = from_dict(BirqConfig, {"encoder": encoder})
    with pytest.raises(UserError, match="num_heads"):
        build_speech_encoder(cfg.frontend, cfg.encoder)
