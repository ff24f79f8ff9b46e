"""transformers' HubertModel has the hidden states of our waveform Transformer, with padding and without."""

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.tools.export.folder import export

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


def test_a_log_mel_conformer_is_refused_and_leaves_nothing(conformer, tmp_path):
    with pytest.raises(UserError, match="has logmel and conformer.*--to onnx"):
        export(conformer[0], tmp_path / "out", "huggingface")
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.pt"]
