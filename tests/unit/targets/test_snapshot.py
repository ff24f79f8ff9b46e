"""Latent-RQ's snapshot: when it changes, what it computes, what begins anew, and what goes into which checkpoint."""

import copy
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_birq.checkpoint import load_encoder, load_speech_encoder_state
from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.doors.birq_ctc import FairseqBirqCtcModel as BirqCtcModel
from fairseq_birq.errors import UserError
from fairseq_birq.model import BirqModel
from tests.fixtures.checkpoints import tiny_config, write_birq_checkpoint
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


def pretrained_run(path, updates=(), encoder="conformer", **changes):
    settings = {"use": ["snapshot"], "snapshot": {"layers": [2], "target_updates": list(updates)}}
    parts = {"encoder": {"dropout": 0.1}}
    return build(encoder=encoder, targets=settings, parts=parts, target_encoder_path=str(path), **changes).train()


def write_ctc_checkpoint(path):
    """A fine-tuned checkpoint's settings and weights, the encoder that `write_birq_checkpoint` makes."""
    model = write_birq_checkpoint(path)
    settings = {**OmegaConf.to_container(tiny_config(BirqCtcConfig), enum_to_str=True), "_name": "birq_ctc"}
    torch.save({"cfg": {"model": settings}, "model": {**model.state_dict(), "output.weight": torch.ones(3)}}, str(path))
    return model


@pytest.mark.parametrize("write", [write_birq_checkpoint, write_ctc_checkpoint])
def test_a_checkpoint_starts_stage_1(tmp_path, write):
    other = write(tmp_path / "one.pt")
    model = pretrained_run(tmp_path / "one.pt", updates=[5])
    source = model.targets["snapshot"]
    expected = weights(other.speech_encoder)
    assert source.stage == 1 and same(weights(source.encoder), {key: expected[key] for key in weights(source.encoder)})
    assert not same(weights(model.speech_encoder), expected)
    both = pretrained_run(tmp_path / "one.pt", pretrained_path=str(tmp_path / "one.pt"))
    assert same(weights(both.speech_encoder), expected)
    model.set_num_updates(4)
    assert source.stage == 1 and same(weights(source.encoder), {key: expected[key] for key in weights(source.encoder)})
    model.set_num_updates(5)
    mine = weights(model.speech_encoder)
    assert source.stage == 2 and same(weights(source.encoder), {key: mine[key] for key in weights(source.encoder)})


@pytest.mark.parametrize("encoder", ["conformer", "transformer"])
def test_what_such_a_run_leaves_needs_the_first_checkpoint_no_more(tmp_path, encoder):
    """Not even where the snapshot's architecture is another one."""
    write_birq_checkpoint(tmp_path / "one.pt", dim=24, num_heads=4)
    targets = {"use": ["snapshot"], "snapshot": {"layers": [2]}}
    settings = {"targets": targets, "target_encoder_path": str(tmp_path / "one.pt")}
    model = write_birq_checkpoint(tmp_path / "two.pt", settings, name=encoder).eval()
    (tmp_path / "one.pt").unlink()
    again = BirqModel.from_checkpoint(tmp_path / "two.pt")
    assert same(weights(again), weights(model)) and again.staged.stage == 1
    inputs = batch([1.5])
    assert torch.equal(again(**inputs).terms["snapshot"].codes, model(**inputs).terms["snapshot"].codes)
    content = torch.load(tmp_path / "two.pt", map_location="cpu", weights_only=True)
    content["model"]["targets.snapshot._extra_state"]["encoder_settings"] = {"encoder": {"dim": "wide"}}
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(UserError, match="damaged.pt: the settings of its snapshot's encoder are damaged"):
        BirqModel.from_checkpoint(tmp_path / "damaged.pt")


def test_a_checkpoint_of_another_encoder_makes_the_targets_until_a_copy_is_wanted(tmp_path, caplog):
    other = write_birq_checkpoint(tmp_path / "one.pt", dim=24, num_layers=3, num_heads=4).speech_encoder.eval()
    model = pretrained_run(tmp_path / "one.pt", encoder="transformer")
    inputs = source_inputs(model)
    hidden = other(inputs.waveform, inputs.padding_mask)
    expected = codes_by_the_equations(model.targets["snapshot"], [None, *hidden.layers], inputs.frame_padding_mask)
    assert torch.equal(model.targets["snapshot"](inputs), expected)
    assert model(**batch([1.0])).loss.isfinite()
    with pytest.raises(SystemExit):
        pretrained_run(tmp_path / "one.pt", updates=[5], encoder="transformer")
    assert "leave `model.targets.snapshot.target_updates` empty" in caplog.text


@pytest.mark.parametrize(
    "snapshot, other, message",
    [
        ({"layers": [0, 1, 2]}, {}, "`model.quantizer.num_codebooks` (2) cannot be shared out evenly over the 3 layers"),
        ({"layers": [1, 3]}, {}, "name different layers from 1 to 2"),
        ({"layers": [1, 1]}, {}, "name different layers"),
        ({"layers": [-1, 1]}, {}, "or 0 for what enters the first"),
        ({"layers": []}, {}, "name different layers"),
        ({"target_updates": [6, 3]}, {}, "larger than the one before"),
        ({"target_updates": [0, 3]}, {}, "larger than the one before"),
        ({"target_updates": []}, {}, "the snapshot would never be taken"),
        ({"statistics_batches": 0}, {}, "statistics_batches"),
        ({}, {"target_encoder_path": "/nowhere/checkpoint.pt"}, "`model.target_encoder_path`: checkpoint /nowhere/checkpoint.pt"),
    ],
)
def test_settings_that_cannot_be_are_named(snapshot, other, message, caplog):
    with pytest.raises(SystemExit):
        latent_rq(other=other, **snapshot)
    assert message in caplog.text


def test_a_target_checkpoint_needs_the_snapshot_and_the_same_frames(tmp_path, caplog):
    path = str(tmp_path / "one.pt")
    write_birq_checkpoint(path)
    targets = {"use": ["snapshot"], "snapshot": {"layers": [1]}}
    for changes in ({}, {"parts": {"frontend": {"hop_ms": 20.0}}, "targets": targets}):
        with pytest.raises(SystemExit):
            build(target_encoder_path=path, **changes)
    assert "needs `snapshot` among" in caplog.text and "other frames than" in caplog.text


def test_none_of_the_snapshot_reaches_fine_tuning_and_exports(tmp_path):
    targets = {"use": ["snapshot", "moving_average"], "snapshot": {"layers": [1], "target_updates": [1]}}
    targets["moving_average"] = {"layers": [2]}
    settings = {"quantizer": {"num_codebooks": 2}, "targets": targets}
    model = write_birq_checkpoint(tmp_path / "latent.pt", settings, lambda model: model.set_num_updates(1))
    assert any(key.startswith("targets.snapshot.encoder.") for key in model.state_dict())
    _, state = load_speech_encoder_state(tmp_path / "latent.pt")
    assert state.keys() == model.speech_encoder.state_dict().keys()
    encoder = weights(model.speech_encoder)
    assert same(weights(load_encoder(tmp_path / "latent.pt")), encoder)
    fine_tuned = tiny_config(BirqCtcConfig, pretrained_path=str(tmp_path / "latent.pt"))
    letters = SimpleNamespace(target_dictionary=list("abcde"))
    state = weights(BirqCtcModel.build_model(fine_tuned, letters))
    assert same(state, {**{f"speech_encoder.{key}": value for key, value in encoder.items()}, **output_of(state)})


def output_of(state):
    return {key: state[key] for key in ("output.weight", "output.bias")}
