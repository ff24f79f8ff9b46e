"""A folder for Hugging Face is read wherever a checkpoint is, with the same weights."""

import json

import pytest
import torch

from fairseq_birq.checkpoint import load, load_encoder
from fairseq_birq.config import BirqConfig, BirqCtcConfig
from fairseq_birq.ctc import BirqCtcModel
from fairseq_birq.errors import UserError
from fairseq_birq.model import BirqModel
from fairseq_birq.tools.export.folder import export
from fairseq_birq.tools.transcribe.recogniser import load_recogniser
from tests.fixtures.audio import waveform_batch
from tests.fixtures.checkpoints import CTC_SYMBOLS, tiny_config, write_birq_checkpoint, write_ctc_checkpoint


@pytest.fixture
def pretrained(tmp_path):
    """(folder, weights of the encoder in it)."""
    model = write_birq_checkpoint(tmp_path / "birq.pt", positions="relative", attention_window=3)
    export(tmp_path / "birq.pt", tmp_path / "out", "huggingface")
    return tmp_path / "out", model.speech_encoder.state_dict()


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_pretrained_encoder_comes_back(pretrained, tmp_path):
    folder, state = pretrained
    assert equal(load_encoder(folder).state_dict(), state)
    fine_tuned = BirqCtcModel.build_model(tiny_config(BirqCtcConfig, pretrained_path=str(folder)), 9)
    assert equal(fine_tuned.speech_encoder.state_dict(), state)
    assert fine_tuned.cfg.encoder.positions == "relative" and fine_tuned.cfg.encoder.attention_window == 3
    further = dict(pretrained_path=str(folder), quantizer={"codebook_size": 16, "codebook_dim": 4})
    cfg = tiny_config(BirqConfig, encoder={"positions": "relative", "attention_window": 3}, **further)
    assert equal(BirqModel.build_model(cfg).speech_encoder.state_dict(), state)


def test_a_recogniser_comes_back_with_its_letters(tmp_path):
    model = write_ctc_checkpoint(tmp_path / "ctc.pt", upsample=2)
    export(tmp_path / "ctc.pt", tmp_path / "out", "huggingface")
    again = load_recogniser(tmp_path / "out", device="cpu")
    assert again.symbols == CTC_SYMBOLS and equal(again.model.state_dict(), model.state_dict())
    waveform, padding_mask, _ = waveform_batch(1.0, 0.7)
    with torch.no_grad():
        assert torch.equal(again.model(waveform, padding_mask).logits, model(waveform, padding_mask).logits)
    assert load(tmp_path / "out")[0] == load(tmp_path / "ctc.pt")[0]
    export(tmp_path / "out", tmp_path / "twice", "huggingface")
    for name in ("model.safetensors", "vocab.json", "config.json"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


DAMAGE = {
    "short": (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 5000), "is not what `birq-export --to hugging"),
    "missing": (lambda folder: (folder / "model.safetensors").unlink(), "is not what `birq-export --to hugging"),
    "sharded": (lambda folder: (folder / "model.safetensors.index.json").write_text("{}"), "its weights are in several files"),
    "settings": (lambda folder: changed(folder, encoder={"dimension": 16}), "`model.encoder.dimension` is unknown"),
    "width": (lambda folder: changed(folder, encoder={"dim": 32}), "its weights are not those of its"),
    "no_settings": (lambda folder: changed(folder, encoder=3), "`model.encoder` must have settings"),
}


def changed(folder, **settings):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **settings}))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_sentence(kind, pretrained):
    damage, said = DAMAGE[kind]
    damage(pretrained[0])
    with pytest.raises(UserError, match=said):
        load_encoder(pretrained[0])


def test_a_folder_of_a_different_model_is_no_checkpoint(pretrained):
    changed(pretrained[0], model_type="hubert")
    with pytest.raises(UserError, match="an exported encoder for other libraries"):
        load_encoder(pretrained[0])


def test_a_blank_that_is_not_the_first_symbol_is_one_sentence(tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt")
    export(tmp_path / "ctc.pt", tmp_path / "out", "huggingface")
    changed(tmp_path / "out", pad_token_id=8)
    with pytest.raises(UserError, match="must be symbol 0, but is 8"):
        load_recogniser(tmp_path / "out")
