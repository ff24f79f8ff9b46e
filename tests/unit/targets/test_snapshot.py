"""Latent-RQ's snapshot: when it changes, what it computes, and what begins anew."""

import copy

import pytest
import torch

from tests.fixtures.models import REFRESH, batch, build, disturb, latent_rq, same, weights
from tests.fixtures.targets import codes_by_the_equations, source_inputs


def test_the_snapshot_changes_at_the_named_updates_and_never_in_between():
    model, inputs = latent_rq(), batch([1.5, 1.0])
    source, stages = model.targets["snapshot"], []
    for update in range(9):
        before, encoder = weights(source.encoder), weights(model.speech_encoder)
        model.set_num_updates(update)
        model.set_num_updates(update)  # fairseq does it for every micro-batch
        model(**inputs).loss.backward()
        after = weights(source.encoder)
        if update in (REFRESH, 6):
            assert not same(after, before) and same(after, {key: encoder[key] for key in after})
        else:
            assert same(after, before)
        stages.append(source.stage)
        disturb(model, seed=update)
    assert stages == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("frontend, encoder", [("logmel", "conformer"), ("logmel", "transformer"), ("waveform", "transformer")])
def test_codes_equal_a_separate_run_of_the_copied_encoder_at_full_depth(frontend, encoder):
    model = latent_rq(frontend=frontend, encoder=encoder, layers=[0, 1], other={"quantizer": {"num_codebooks": 4}})
    copied = build(frontend, encoder).speech_encoder
    disturb(model)
    copied.load_state_dict(model.speech_encoder.state_dict())
    model.set_num_updates(REFRESH)
    disturb(model, seed=1)
    inputs = source_inputs(model)
    codes = model.targets["snapshot"](inputs)
    encoded = copied.eval()(inputs.waveform, inputs.padding_mask)
    expected = codes_by_the_equations(model.targets["snapshot"], [encoded.subsampled, *encoded.layers], inputs.frame_padding_mask)
    assert codes.shape == expected.shape == (int(inputs.selected.sum()), 4)
    assert torch.equal(codes, expected)


@pytest.mark.parametrize("encoder", ["conformer", "transformer"])
@pytest.mark.parametrize("deepest", [0, 1, 2])
def test_truncated_depth_gives_the_codes_of_full_depth(encoder, deepest):
    model = latent_rq(encoder=encoder, layers=[deepest], other={"parts": {"encoder": {"num_layers": 3}}})
    source = model.targets["snapshot"]
    assert len(source.encoder.encoder.layers) == deepest
    model.set_num_updates(REFRESH)
    inputs = source_inputs(model)
    codes = source(inputs)
    source.encoder.encoder.layers = copy.copy(model.speech_encoder.encoder.layers)
    source.encoder.num_layers = 3
    assert torch.equal(source.eval()(inputs), codes)
    assert len(source.encoder(inputs)) == 4


def test_the_snapshot_runs_once_for_all_views_in_eval_mode_and_without_gradient():
    model = latent_rq(other={"masked_views": 2, "parts": {"encoder": {"dropout": 0.5, "layer_dropout": 0.5}}})
    model.set_num_updates(REFRESH)
    calls = []
    model.targets["snapshot"].encoder.register_forward_hook(lambda module, _, hidden: calls.append((module.training, hidden)))
    output = model(**batch([1.5, 1.0]))
    output.loss.backward()
    ((training, hidden),) = calls
    assert not training and all(layer.shape[0] == 2 and not layer.requires_grad for layer in hidden)
    assert model.training and not model.targets["snapshot"].encoder.encoder.training
    assert all(parameter.grad is None for parameter in model.targets.parameters())
    assert output.terms["snapshot"].codes.shape == (output.num_masked, 2)


def test_stage_0_is_best_rq_with_the_same_codebooks_bit_for_bit():
    latent, best_rq, inputs = latent_rq(), build().train(), batch([1.5, 1.0])
    for update in range(REFRESH):
        outputs = []
        for model in (latent, best_rq):
            model.set_num_updates(update)
            outputs.append(model(**inputs))
            model.zero_grad()
            outputs[-1].loss.backward()
        assert torch.equal(outputs[0].loss, outputs[1].loss)
        assert torch.equal(outputs[0].terms["snapshot"].codes, outputs[1].terms["raw_input"].codes)
    trained = [parameter for parameter in latent.parameters() if parameter.requires_grad]
    for ours, theirs in zip(trained, best_rq.parameters()):
        assert torch.equal(ours.grad, theirs.grad)
    latent.set_num_updates(REFRESH)
    assert not torch.equal(latent(**inputs).terms["snapshot"].codes, outputs[1].terms["raw_input"].codes)


def test_with_an_anchor_it_is_silent_in_stage_0_and_joins_then():
    model, inputs = latent_rq(use=["snapshot", "raw_input"]), batch([1.5, 1.0])
    weighted = {"raw_input": 2.0, "snapshot": 0.5}
    for mode in (True, False):
        assert list(model.train(mode)(**inputs, weights=weighted).terms) == ["raw_input"]
    model.train().set_num_updates(REFRESH)
    output = model(**inputs, weights=weighted)
    sums = {name: term.loss_sum.mean().item() for name, term in output.terms.items()}
    assert output.loss.item() == pytest.approx(2.0 * sums["raw_input"] + 0.5 * sums["snapshot"], rel=1e-5)
    assert output.stage == 1 and output.columns == {"raw_input": (), "snapshot": ("layer0", "layer2")}


@pytest.mark.parametrize(
    "use",
    [
        ["raw_input", "snapshot"],
        ["raw_input", "moving_average"],
        ["own_layer", "snapshot"],
        ["raw_input", "own_layer", "snapshot", "moving_average"],
    ],
)
def test_every_mix_trains_with_a_head_per_code_system(use):
    model, inputs = latent_rq(use=use), batch([1.5, 1.0])
    for update in (0, REFRESH):
        model.set_num_updates(update)
        model.zero_grad()
        output = model(**inputs)
        output.loss.backward()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert output.loss.isfinite() and all(parameter.grad.isfinite().all() for parameter in trained)
    assert set(output.terms) == set(model.heads) == set(use)
    assert all(head.weight.grad.any() for head in model.heads.values())


def test_heads_really_are_new_and_depend_on_seed_and_stage_alone():
    first, second = latent_rq(use=["snapshot", "raw_input"]), latent_rq(use=["snapshot", "raw_input"])
    disturb(second)
    seen = []
    for update in (REFRESH, 6):
        anchors = weights(first.heads["raw_input"])
        for model in (first, second):
            model.set_num_updates(update)
        assert same(weights(first.heads["snapshot"]), weights(second.heads["snapshot"]))
        assert same(weights(first.heads["raw_input"]), anchors)
        seen.append(weights(first.heads["snapshot"]))
    assert not torch.equal(seen[0]["weight"], seen[1]["weight"])
    assert seen[0]["weight"].std().item() == pytest.approx(0.02, rel=0.1) and not seen[0]["bias"].any()
    kept = latent_rq(reset_heads=False)
    before = weights(kept.heads)
    kept.set_num_updates(REFRESH)
    assert same(weights(kept.heads), before)


def test_the_statistics_are_those_of_the_frames_seen():
    """In two batches of one size."""
    model = latent_rq(statistics_batches=2, layers=[2, 1])
    model.set_num_updates(REFRESH)
    frames = []
    for seed in (0, 1):
        inputs = batch([1.5])
        inputs["waveform"] = inputs["waveform"] + 0.1 * torch.randn(inputs["waveform"].shape, generator=torch.manual_seed(seed))
        model(**inputs)
        frames.append(copy.deepcopy(model.speech_encoder).eval()(inputs["waveform"], inputs["padding_mask"]).layers[1][0])
    norm, joined = model.targets["snapshot"].normalisations[0], torch.cat(frames).double()
    assert torch.allclose(norm.mean.double(), joined.mean(0), atol=1e-5)
    assert torch.allclose(norm.second.double(), joined.var(0, unbiased=False), rtol=1e-4)
    assert not torch.allclose(frames[0].mean(0), frames[1].mean(0), atol=1e-3)


@pytest.mark.parametrize("batches", [1, 2])
def test_the_first_batches_after_a_refresh_set_the_statistics_and_none_later(batches):
    model = latent_rq(statistics_batches=batches)
    norm = model.targets["snapshot"].normalisations[1]
    for update in (REFRESH, 6):
        model.set_num_updates(update)
        assert norm.num_batches == 0
        seen = []
        for seconds in ([1.5], [0.8], [2.0]):
            model(**batch(seconds))
            seen.append(weights(norm))
        changed = [not same(before, after) for before, after in zip(seen, seen[1:])]
        assert changed == [batches == 2, False]
        disturb(model)


def test_projections_and_codebooks_are_fixed_and_depend_on_layer_and_seed_alone():
    first, second = latent_rq(layers=[1, 2]), latent_rq(layers=[2, 0])
    quantizers = [model.targets["snapshot"].quantizers for model in (first, second)]
    assert torch.equal(quantizers[0][1].projection, quantizers[1][0].projection)
    assert not torch.equal(quantizers[0][0].projection, quantizers[0][1].projection)
    assert not torch.equal(quantizers[0][0].codebook, quantizers[0][1].codebook)
    before = weights(first.targets["snapshot"].quantizers)
    first.set_num_updates(REFRESH)
    assert same(weights(first.targets["snapshot"].quantizers), before)


def test_a_state_of_any_stage_loads_and_goes_on_in_its_stage():
    inputs = batch([1.5, 1.0])
    for reached in (0, REFRESH - 1, REFRESH, 6):
        model = latent_rq()
        for update in range(reached + 1):
            model.set_num_updates(update)
            model(**inputs)
            disturb(model, seed=update)
        resumed = latent_rq()
        resumed.set_num_updates(reached + 1)  # as fairseq does before it loads
        resumed.load_state_dict(copy.deepcopy(model.state_dict()))
        for update in (reached + 1, reached + 2):
            for each in (model, resumed):
                each.set_num_updates(update)
            assert model.staged.stage == resumed.staged.stage == sum(at <= update for at in (REFRESH, 6))
            assert torch.equal(model(**inputs).loss, resumed(**inputs).loss)
        assert same(weights(model), weights(resumed))


def test_the_same_codes_in_a_model_that_was_cast():
    """Half precision moves hidden states a little; everything after them is float32."""
    model = latent_rq(layers=[1], other={"quantizer": {"num_codebooks": 1}})
    half = latent_rq(layers=[1], other={"quantizer": {"num_codebooks": 1}}).to(torch.bfloat16)
    codes = []
    for each in (model, half):
        each.set_num_updates(REFRESH)
        output = each(**batch([1.5, 1.0]))
        assert output.loss.isfinite()
        codes.append(output.terms["snapshot"].codes)
    assert (codes[0] == codes[1]).double().mean() > 0.7
    assert half.targets["snapshot"].encoder.encoder.layers[0].ffn1.expand.weight.dtype == torch.bfloat16
    assert half.targets["snapshot"].normalisations[0].mean.dtype == torch.float32
