import pytest
import torch

from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.ctc import resolve_pretrained
from fairseq_birq.doors.birq_ctc import FairseqBirqCtcModel as BirqCtcModel
from fairseq_birq.settings import from_dict
from tests.fixtures.audio import waveform_batch
from tests.fixtures.checkpoints import tiny_config, write_birq_checkpoint
from tests.fixtures.models import TASK, VOCABULARY_SIZE

NO_DROPOUT = {"dropout": 0.0, "encoder": {"dropout": 0.0, "attention_dropout": 0.0}}


def build(**settings):
    torch.manual_seed(1)
    return BirqCtcModel.build_model(tiny_config(BirqCtcConfig, **settings), TASK)


@pytest.mark.parametrize("upsample", [1, 2, 3])
def test_one_row_of_scores_per_upsampled_frame(upsample):
    model = build(upsample=upsample).eval()
    waveform, padding_mask, ids = waveform_batch(1.0, 0.5)
    output = model(waveform, padding_mask, ids)
    frames = [upsample * model.speech_encoder.output_length(size) for size in (16000, 8000)]
    assert output.logits.shape == (2, frames[0], VOCABULARY_SIZE)
    expected = torch.arange(frames[0])[None, :] >= torch.tensor(frames)[:, None]
    assert torch.equal(output.padding_mask, expected)


def test_padding_changes_nothing():
    model = build(upsample=2).eval()
    waveform, padding_mask, ids = waveform_batch(1.0, 0.5)
    together = model(waveform, padding_mask, ids)
    alone = model(waveform[1:, :8000], padding_mask[1:, :8000], ids[1:])
    num_frames = alone.logits.shape[1]
    assert torch.allclose(together.logits[1, :num_frames], alone.logits[0], atol=1e-5)


def test_probabilities_are_normalised_in_float32():
    model = build().eval().bfloat16()
    output = model(*waveform_batch(0.5))
    for log_probs in (True, False):
        probabilities = model.get_normalized_probs(output, log_probs)
        assert probabilities.dtype == torch.float32
        sums = (probabilities.exp() if log_probs else probabilities).sum(-1)
        assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)


def test_the_encoder_learns_only_after_its_frozen_updates():
    model = build(freeze_encoder_updates=3).train()
    for num_updates, learns in ((0, False), (2, False), (3, True)):
        model.zero_grad(set_to_none=True)
        model.set_num_updates(num_updates)
        model(*waveform_batch(1.0)).logits.square().sum().backward()
        gradients = [parameter.grad is not None for parameter in model.speech_encoder.parameters()]
        assert model.output.weight.grad.abs().sum() > 0
        assert any(gradients) == learns


def test_masks_depend_on_seed_update_and_utterance_alone():
    model = build(mask={"start_prob": 0.05}, **NO_DROPOUT).train()
    waveform, padding_mask, _ = waveform_batch(1.0)

    def logits(update, utterance):
        model.set_num_updates(update)
        return model(waveform, padding_mask, torch.tensor([utterance])).logits

    assert torch.equal(logits(5, 7), logits(5, 7))
    assert not torch.allclose(logits(5, 7), logits(6, 7), atol=1e-4)
    assert not torch.allclose(logits(5, 7), logits(5, 8), atol=1e-4)


def test_nothing_is_masked_in_eval_or_when_switched_off():
    waveform, padding_mask, ids = waveform_batch(1.0)
    model = build(mask={"start_prob": 0.5}, **NO_DROPOUT)
    without = build(apply_mask=False, **NO_DROPOUT)
    expected = model.eval()(waveform, padding_mask, ids).logits
    assert torch.allclose(without.train()(waveform, padding_mask, ids).logits, expected, atol=1e-5)
    assert not torch.allclose(model.train()(waveform, padding_mask, ids).logits, expected, atol=1e-2)


@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_keeps_every_parameter_in_the_graph(training):
    model = build().train(training)
    output = model(torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, dtype=torch.long))
    assert output.logits.shape[0] == 0 and output.logits.shape[2] == VOCABULARY_SIZE
    output.logits.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_a_pretrained_checkpoint_gives_weights_and_sizes_but_not_dropouts(tmp_path):
    path = tmp_path / "pretrained.pt"
    pretrained = write_birq_checkpoint(path, dim=24, num_layers=3, dropout=0.3, layer_dropout=0.2)
    own = {"dropout": 0.05, "layer_dropout": 0.01, "dim": 16, "checkpoint_activations": True}
    model = build(pretrained_path=str(path), encoder=own)
    assert model.cfg.encoder.dim == 24 and model.cfg.encoder.num_layers == 3
    assert model.cfg.encoder.dropout == 0.05 and model.cfg.encoder.layer_dropout == 0.01
    assert model.cfg.encoder.checkpoint_activations
    for name, value in pretrained.speech_encoder.state_dict().items():
        assert torch.equal(model.speech_encoder.state_dict()[name], value), name


def test_a_fine_tuned_model_holds_nothing_of_pretraining(tmp_path):
    """Neither quantizer nor heads nor targets reach the fine-tuned checkpoint."""
    path = tmp_path / "pretrained.pt"
    pretrained = write_birq_checkpoint(path)
    state = build(pretrained_path=str(path), mask={"fill": "noise"}).state_dict()
    encoder = {f"speech_encoder.{name}" for name in pretrained.speech_encoder.state_dict()}
    assert set(state) == encoder | {"output.weight", "output.bias"}
    assert len(pretrained.state_dict()) > len(encoder)


def test_resolved_settings_need_no_other_file(tmp_path):
    path = tmp_path / "pretrained.pt"
    write_birq_checkpoint(path, dim=24)
    cfg = from_dict(BirqCtcConfig, tiny_config(BirqCtcConfig, pretrained_path=str(path)))
    cfg, state = resolve_pretrained(cfg)
    path.unlink()
    assert cfg.pretrained_path is None and cfg.initialized_from == str(path)
    again, nothing = resolve_pretrained(cfg)
    assert again == cfg and nothing is None
    BirqCtcModel.build_model(cfg, TASK).speech_encoder.load_state_dict(state)


def test_from_scratch_the_settings_are_the_config_s():
    assert build(encoder={"dim": 24}).speech_encoder.dim == 24


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pretrained_path": "nowhere.pt"}, "nowhere.pt does not exist"),
        ({"upsample": 0}, "`model.upsample` must be at least 1, but is 0"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2(settings, message, caplog):
    with pytest.raises(SystemExit) as stop:
        build(**settings)
    assert stop.value.code == 2 and message in caplog.text


def test_a_checkpoint_of_another_model_is_refused(tmp_path, caplog):
    torch.save({"cfg": {"model": {"_name": "hubert"}}, "model": {}}, str(tmp_path / "hubert.pt"))
    with pytest.raises(SystemExit):
        build(pretrained_path=str(tmp_path / "hubert.pt"))
    assert "is of model 'hubert'" in caplog.text
