"""transformers' HubertModel has the hidden states of our waveform Transformer, with padding and without."""

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.tools.export.folder import export
from tests.fixtures.audio import waveform_batch
from tests.fixtures.checkpoints import write_ctc_checkpoint
from tests.fixtures.exports import WAVEFORM

transformers = pytest.importorskip("transformers")


def both(path, model, waves, folder):
    """Our layers and theirs, each (B, T, d), and the frames' padding mask."""
    export(path, folder / "out", "huggingface")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder / "out")
    hubert, report = transformers.AutoModel.from_pretrained(folder / "out", output_loading_info=True)
    assert type(hubert).__name__ == "HubertModel" and not any(report.values())
    given = extractor([wave.numpy() for wave in waves], sampling_rate=16000, return_tensors="pt", padding=True)
    padding_mask = given["attention_mask"] == 0
    waveform = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    with torch.no_grad():
        ours = model.speech_encoder(waveform, padding_mask)
        theirs = hubert.eval()(**given, output_hidden_states=True)
    return ours.layers, [*theirs.hidden_states[1:-1], theirs.last_hidden_state], ours.padding_mask


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 3)])
def test_hidden_states_of_all_layers(transformer, batch, rows, tmp_path):
    waves = [wave[~padding] for wave, padding in zip(*batch)][rows]
    ours, theirs, padding_mask = both(*transformer, waves, tmp_path)
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs):
        assert mine.abs().max() > 0.5 and torch.allclose(mine[~padding_mask], other[~padding_mask], atol=1e-5)


def test_real_speech(transformer, mboshi, tmp_path):
    import soundfile

    from fairseq_birq.data.manifest import read_manifest

    manifest = read_manifest(mboshi / "dev.tsv")
    waves = [torch.from_numpy(soundfile.read(manifest.audio_path(row), dtype="float32")[0]) for row in range(4)]
    ours, theirs, padding_mask = both(*transformer, waves, tmp_path)
    assert padding_mask.any()
    for mine, other in zip(ours, theirs):
        assert torch.allclose(mine[~padding_mask], other[~padding_mask], atol=1e-5)


@pytest.mark.parametrize("seconds", [(1.5,), (1.5, 1.1, 0.8)])
def test_scores_of_a_fine_tuned_one(seconds, tmp_path):
    model = write_ctc_checkpoint(tmp_path / "ctc.pt", **WAVEFORM, encoder={"name": "transformer"})
    export(tmp_path / "ctc.pt", tmp_path / "out", "huggingface")
    theirs, report = transformers.AutoModelForCTC.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(theirs).__name__ == "HubertForCTC" and not any(report.values())
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "out")
    waveform, padding_mask, _ = waveform_batch(*seconds)
    given = processor([wave[~padding].numpy() for wave, padding in zip(waveform, padding_mask)], sampling_rate=16000)
    given = processor.pad(given, return_tensors="pt", padding=True)
    with torch.no_grad():
        ours, scores = model(waveform, padding_mask), theirs.eval()(**given).logits
    assert torch.allclose(ours.logits[~ours.padding_mask], scores[~ours.padding_mask], atol=1e-5)
    assert ours.logits.std() > 0.1


def test_two_ctc_frames_per_encoder_frame_are_refused_and_leave_nothing(tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt", **WAVEFORM, encoder={"name": "transformer"}, upsample=2)
    with pytest.raises(UserError, match="model.upsample: 2. is no HubertForCTC"):
        export(tmp_path / "ctc.pt", tmp_path / "out", "huggingface")
    assert [path.name for path in tmp_path.iterdir()] == ["ctc.pt"]
