"""BiRQ's losses and gradients against its equations, written out with loops, and against finite differences."""

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from fairseq_birq.modules import held_statistics
from fairseq_birq.modules.cpu import grouped_argmax
from fairseq_birq.objective.diversity_loss import diversity_loss
from fairseq_birq.objective.heads import CodebookHeads
from fairseq_birq.objective.losses import F as F_of
from fairseq_birq.objective.losses import G, masked_code_loss, penalty_form, pretraining_loss
from fairseq_birq.objective.masking import gumbel_offsets, utterance_keys
from fairseq_birq.objective.soft_codes import SoftCodes, gumbel_rows, gumbel_table
from tests.fixtures.models import batch, birq, build
from tests.fixtures.objective import SCALE, TAU, example, soft_codes

WEIGHTS = {"raw_input": 2.4, "own_layer": 0.1}


def by_the_equations(hidden, weight, bias, unit, codebook, codes, noise):
    """F and G, summed over frames, mean over codebooks: one frame, one codebook, one code at a time."""
    f = g = 0.0
    for t in range(hidden.shape[0]):
        for n in range(weight.shape[0]):
            logits = [weight[n, v] @ hidden[t] + bias[n, v] for v in range(weight.shape[1])]
            log_p = [logit - torch.logsumexp(torch.stack(logits), 0) for logit in logits]
            scores = [-SCALE * (codebook[n, v] - unit[t, n]).pow(2).sum() for v in range(weight.shape[1])]
            powers = [((score + noise[t, n, v]) / TAU).exp() for v, score in enumerate(scores)]
            f = f - sum(power / sum(powers) * lp for power, lp in zip(powers, log_p)) / weight.shape[0]
            g = g - log_p[codes[t, n]] / weight.shape[0]
    return f, g


def noise_of(targets, size):
    columns = [gumbel_rows(targets.offsets[:, n], size, torch.float64) for n in range(targets.num_columns)]
    return torch.stack(columns, dim=1)


def test_f_and_g_and_all_gradients_equal_the_equations():
    hidden, weight, bias, unit, codebook, codes = inputs = example()
    targets = {"raw_input": codes, "own_layer": soft_codes(unit, codebook)}
    total, terms = masked_code_loss(hidden, weight, bias, targets, WEIGHTS, block_bytes=50)
    f, g = by_the_equations(*inputs, noise_of(targets["own_layer"], 5))
    assert torch.allclose(terms["own_layer"].loss_sum.mean(), f) and torch.allclose(terms["raw_input"].loss_sum.mean(), g)
    assert torch.allclose(total, 0.1 * f + 2.4 * g)
    leaves = (hidden, weight, bias, unit)
    for ours, theirs in zip(torch.autograd.grad(total, leaves), torch.autograd.grad(0.1 * f + 2.4 * g, leaves)):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("straight_through", [False, True])
def test_blocks_of_any_size_have_the_gradient_of_f_and_g_in_one_piece(straight_through):
    """The printed functions by themselves, with autograd over all frames at once."""
    hidden, weight, bias, unit, codebook, codes = example(frames=11)
    soft = soft_codes(unit, codebook, straight_through)
    whole = 0.0
    for n in range(weight.shape[0]):
        log_p = (hidden @ weight[n].t() + bias[n]).log_softmax(-1)
        losses = {"raw_input": G(log_p, codes[:, n]), "own_layer": F_of(log_p, soft.labels(n, torch.float64).y)}
        whole = whole + penalty_form(losses, WEIGHTS) / weight.shape[0]
    leaves = (hidden, weight, bias, unit)
    expected = torch.autograd.grad(whole, leaves)
    for block_bytes in (1, 300, 1 << 20):
        total, _ = masked_code_loss(hidden, weight, bias, {"raw_input": codes, "own_layer": soft}, WEIGHTS, block_bytes)
        assert torch.allclose(total, whole, rtol=1e-12)
        for ours, theirs in zip(torch.autograd.grad(total, leaves), expected):
            assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_gradient_of_f_agrees_with_finite_differences_through_the_labels():
    hidden, weight, bias, unit, codebook, _ = example()

    def f(hidden, weight, bias, unit):
        return masked_code_loss(hidden, weight, bias, {"own_layer": soft_codes(unit, codebook)}, {}, 100)[0]

    assert torch.autograd.gradcheck(f, (hidden, weight, bias, unit))
    assert torch.autograd.grad(f(hidden, weight, bias, unit), unit)[0].abs().max() > 1e-3


def test_straight_through_has_the_sampled_code_as_label():
    hidden, weight, bias, unit, codebook, _ = example()
    targets = soft_codes(unit, codebook, straight_through=True)
    noise = noise_of(targets, 5)
    sampled = (-SCALE * (codebook[None] - unit[:, :, None]).pow(2).sum(-1) + noise).argmax(-1)
    total, terms = masked_code_loss(hidden, weight, bias, {"own_layer": targets}, {}, 100)
    expected, _ = masked_code_loss(hidden, weight, bias, {"own_layer": sampled}, {}, 100)
    assert torch.allclose(total, expected)
    assert torch.autograd.grad(total, unit)[0].abs().max() > 1e-3


def test_what_is_logged_of_soft_labels():
    hidden, weight, bias, unit, codebook, _ = example(frames=200)
    targets = soft_codes(unit, codebook)
    _, terms = masked_code_loss(hidden, weight, bias, {"own_layer": targets}, {}, 100)
    scores = -SCALE * (codebook[None] - unit[:, :, None]).pow(2).sum(-1)
    noisy = scores + noise_of(targets, 5)
    soft = (noisy / TAU).softmax(-1)
    term = terms["own_layer"]
    assert torch.equal(term.codes, scores.argmax(-1))
    assert torch.equal(term.sampled_nearest.long(), (scores.argmax(-1) == noisy.argmax(-1)).sum(0))
    assert torch.allclose(term.entropy_sum, -(soft * soft.log()).sum((0, 2)))


def test_sharp_labels_equal_the_softmax_without_denormal_numbers():
    """Denormal numbers make a CPU several times slower."""
    generator = torch.Generator().manual_seed(0)
    unit, codebook = (F.normalize(torch.randn(*shape, generator=generator), dim=-1) for shape in ((50, 1, 16), (1, 512, 16)))
    targets = SoftCodes([unit], [codebook], torch.rand(50, 1, dtype=torch.float64, generator=generator), 40.0, TAU)
    scores = -40.0 * (codebook[0].double() - unit[:, 0, None].double()).pow(2).sum(-1)
    exact = ((scores + gumbel_rows(targets.offsets[:, 0], 512, torch.float64)) / TAU).softmax(-1)
    labels = targets.labels(0, torch.float32)
    tiny = torch.finfo(torch.float32).tiny
    assert (exact < tiny).float().mean() > 0.1 and labels.y.min() > tiny
    assert torch.allclose(labels.y.double(), exact, atol=1e-4)
    assert torch.allclose(labels.entropy.double(), -torch.special.xlogy(exact, exact).sum(-1), atol=1e-3)


def test_noise_is_gumbel_and_rows_are_uncorrelated():
    rows = gumbel_rows(torch.rand(400, dtype=torch.float64), 512, torch.float64)
    assert rows.mean() == pytest.approx(0.5772, abs=0.02) and rows.var() == pytest.approx(math.pi**2 / 6, rel=0.03)
    below = (rows < 1.0).double().mean()
    assert below == pytest.approx(math.exp(-math.exp(-1.0)), abs=0.01)
    correlation = torch.corrcoef(rows[:60]).fill_diagonal_(0).abs()
    assert correlation.mean() < 0.06
    assert gumbel_table(torch.device("cpu"), torch.float64).isfinite().all()


def test_codes_are_sampled_with_their_softmax_probabilities():
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0], dtype=torch.float64)
    offsets = gumbel_offsets(utterance_keys(1, 1, torch.arange(40000)), torch.zeros(40000, dtype=torch.int64), 1)[:, 0]
    sampled = grouped_argmax(scores + gumbel_rows(offsets, 4, torch.float64))
    shares = torch.bincount(sampled, minlength=4) / 40000
    assert torch.allclose(shares.double(), scores.softmax(-1), atol=0.01)


def test_the_weighted_sum_is_of_all_heads_and_of_the_reward():
    """w1 F + w2 G with a head each, and w1 x diversity_weight x the reward; a head that nobody uses has a zero gradient."""
    hidden, weight, bias, unit, codebook, codes = example()
    heads = {name: CodebookHeads(3, 5, 2).double() for name in ("raw_input", "own_layer", "unused")}
    targets, own_heads = {"raw_input": codes, "own_layer": soft_codes(unit, codebook)}, {name: name for name in heads}
    loss, terms = pretraining_loss(hidden, heads, own_heads, targets, WEIGHTS, {"own_layer": 3.0}, 1000)
    f, g = (terms[name].loss_sum.mean() for name in ("own_layer", "raw_input"))
    reward = diversity_loss(targets["own_layer"], 1000)
    assert torch.allclose(loss.double(), 0.1 * f + 2.4 * g + 0.1 * 3.0 * reward) and reward.detach().abs() > 0.1
    assert torch.equal(terms["own_layer"].diversity_loss, reward.detach()) and terms["raw_input"].diversity_loss is None
    loss.backward()
    gradients = {name: head.weight.grad.abs().max() for name, head in heads.items()}
    assert gradients["unused"] == 0 and min(gradients["raw_input"], gradients["own_layer"]) > 0


def gradients(loss, model):
    names, parameters = zip(*model.speech_encoder.named_parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for name, p, g in zip(names, parameters, found)}


def test_the_label_path_scales_with_its_setting_and_ends_at_its_layer():
    inputs = batch([1.5, 1.0])
    model = birq()
    through = gradients(model(**inputs, weights={"raw_input": 0.0, "own_layer": 1.0}).loss, model)
    detached_model = birq(target_grad_scale=0.0)
    detached_model.load_state_dict(model.state_dict())
    detached = gradients(detached_model(**inputs, weights={"raw_input": 0.0, "own_layer": 1.0}).loss, detached_model)
    half_model = birq(target_grad_scale=0.5)
    half_model.load_state_dict(model.state_dict())
    half = gradients(half_model(**inputs, weights={"raw_input": 0.0, "own_layer": 1.0}).loss, half_model)
    label_path = {name: through[name] - detached[name] for name in through}
    assert max(gradient.abs().max() for gradient in label_path.values()) > 1e-3
    for name, gradient in label_path.items():
        if name.startswith("encoder.layers.1"):
            assert gradient.abs().max() < 1e-4  # the labels come from layer 1: layer 2 hears of F through p alone
        assert torch.allclose(half[name] - detached[name], 0.5 * gradient, atol=1e-4)


def test_with_w1_zero_training_is_best_rqs_bit_for_bit():
    inputs = batch([1.5, 1.0])
    reference, model = build(encoder="conformer").train(), birq()
    model.load_state_dict({**model.state_dict(), **reference.state_dict()})
    ours, theirs = model(**inputs, weights={"own_layer": 0.0}), reference(**inputs)
    assert torch.equal(ours.loss, theirs.loss)
    expected = gradients(theirs.loss, reference)
    for name, gradient in gradients(ours.loss, model).items():
        assert torch.equal(gradient, expected[name]), name


def two_passes(model, inputs):
    """The losses with the unmasked utterances in a pass of their own."""
    encode = model.encode

    def separately(features, padding, mask, keys, sources, heard=None, chunks=None):
        last, _ = encode(features, padding, mask, keys, {})
        hidden = model._run(features, padding, 1, clean_rows=features.x.shape[0])
        return last, {1: hidden[0]}

    model.encode = separately
    try:
        return model(**inputs, weights=WEIGHTS).loss
    finally:
        model.encode = encode


def test_the_joined_pass_equals_two_separate_passes():
    inputs = batch([1.5, 1.0, 0.7])
    model = birq()
    model(**inputs)  # the statistics of the normalisation are taken once
    with held_statistics.held():
        joined, apart = model(**inputs, weights=WEIGHTS).loss, two_passes(model, inputs)
    assert joined.item() == pytest.approx(apart.item(), rel=1e-6)
    expected = gradients(apart, model)
    for name, gradient in gradients(joined, model).items():
        assert torch.allclose(gradient, expected[name], atol=1e-4), name


def _keys_of_view(view, seed, update, ids, _):
    return utterance_keys(seed, update, ids, view)


def test_two_views_are_two_single_views(monkeypatch):
    inputs = batch([1.5, 1.0])
    model = birq()
    model(**inputs)
    model.masked_views = 2
    with held_statistics.held():
        both = model(**inputs, weights=WEIGHTS)
        model.masked_views, singles = 1, []
        for view in (0, 1):
            keys = partial(_keys_of_view, view)
            monkeypatch.setattr("fairseq_birq.model.utterance_keys", keys)
            singles.append(model(**inputs, weights=WEIGHTS))
    assert both.num_masked == sum(single.num_masked for single in singles)
    assert both.loss.item() == pytest.approx(sum(single.loss.item() for single in singles), rel=1e-5)


@pytest.mark.parametrize("mode", ["layer", "standardize", "standardize+layer", "whiten"])
def test_every_normalisation_trains_and_only_training_moves_its_statistics(mode):
    model = birq(normalisation=mode)
    inputs = batch([1.5, 1.0])
    model(**inputs).loss.backward()
    statistics = [tensor.clone() for tensor in model.targets["own_layer"].normalisations[0].buffers()]
    model.eval()(**inputs)
    for before, after in zip(statistics, model.targets["own_layer"].normalisations[0].buffers()):
        assert torch.equal(before, after)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_gradient_of_two_processes_is_that_of_the_joined_batch():
    model = birq()
    joined = batch([2.0, 1.2, 1.7, 0.9])
    model(**joined)
    halves = [{key: value[rows] for key, value in joined.items()} for rows in ([0, 2], [1, 3])]
    with held_statistics.held():
        expected = gradients(model(**joined, weights=WEIGHTS).loss, model)
        parts = [gradients(model(**half, weights=WEIGHTS).loss, model) for half in halves]
    for name, gradient in expected.items():
        assert torch.allclose(gradient, parts[0][name] + parts[1][name], atol=2e-4, rtol=1e-3), name


def test_several_layers_and_an_own_head_and_codebook():
    model = birq(layers=[1, 2], shared_head=False, shared_codebook=False)
    output = model(**batch([1.5]))
    assert output.terms["own_layer"].loss_sum.shape == (4,) and output.loss.isfinite()
    assert sorted(model.heads) == ["own_layer", "raw_input"]
    books = [quantizer.codebook for quantizer in model.targets["own_layer"].quantizers]
    assert not torch.equal(books[0], model.targets["raw_input"].quantizer.codebook)
    shared = birq()
    assert list(shared.heads) == ["raw_input"]
    assert torch.equal(shared.targets["own_layer"].quantizers[0].codebook, shared.targets["raw_input"].quantizer.codebook)
