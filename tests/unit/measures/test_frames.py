"""Frames of a corpus: as many as the model has, in the manifest's order, with the right phone."""

import pytest
import soundfile
import torch

from fairseq_birq.config import BirqConfig
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_alignment
from fairseq_birq.measures.frames import batches, collect, phones_of
from fairseq_birq.model import BirqModel
from tests.fixtures.audio import truncate
from tests.fixtures.checkpoints import tiny_config, write_birq_checkpoint
from tests.fixtures.manifests import write_manifest

SECONDS = (1.0, 1.53, 0.7)


def test_codes_and_hidden_states_are_those_of_each_utterance_alone(tmp_path):
    write_manifest(tmp_path, seconds=SECONDS)
    own = {"layers": [1, 2]}
    cfg = tiny_config(BirqConfig, targets={"use": ["raw_input", "own_layer"], "own_layer": own})
    model = BirqModel.build_model(cfg).eval()
    for normalisation in model.targets["own_layer"].normalisations:
        normalisation.update(torch.randn(100, 16))  # statistics that training would have made
    codes, hidden = collect(model, tmp_path / "train.tsv", ["raw_input", "own_layer"], [0, 2])
    waves = [soundfile.read(str(tmp_path / "train" / f"{row:04d}.flac"), dtype="float32")[0] for row in range(len(SECONDS))]
    alone = [model.speech_encoder(torch.from_numpy(wave)[None]) for wave in waves]
    assert torch.allclose(hidden[2], torch.cat([encoded.last[0] for encoded in alone]), atol=1e-5)
    assert torch.allclose(hidden[0], torch.cat([encoded.subsampled[0] for encoded in alone]), atol=1e-5)
    assert codes["raw_input"].shape == (len(hidden[2]), 1) and codes["own_layer"].shape == (len(hidden[2]), 2)
    source = model.targets["own_layer"]
    expected = source.quantizers[1].nearest(source.normalisations[1](hidden[2]))
    assert (codes["own_layer"][:, 1:] != expected).sum() <= 1  # a tie may fall otherwise


def test_batches_have_every_row_once(tmp_path):
    write_manifest(tmp_path, seconds=[1.0] * 5)
    found = [batch["ids"].tolist() for batch in batches(tmp_path / "train.tsv", utterances=2)]
    assert found == [[0, 1], [2, 3], [4]]


def test_phones_follow_the_manifest(tmp_path):
    write_manifest(tmp_path, seconds=SECONDS)
    table = tmp_path / "train.phn"
    header = "utt_index\tpath\tstart_s\tend_s\tphone\n"
    table.write_text(header + '0\tx\t0.0\t0.5\ta\n0\tx\t0.5\t0.9\tSIL\n2\tx\t0.0\t0.7\t"\n')
    frontend = BirqModel.build_model(tiny_config(BirqConfig)).speech_encoder.frontend
    ids = {}
    phones = phones_of(frontend, tmp_path / "train.tsv", read_alignment(table), ids).split(
        [int(frontend.output_length(int(16000 * seconds))) for seconds in SECONDS]
    )
    assert ids == {"a": 0, '"': 1}
    assert phones[0][:12].eq(0).all() and phones[0][13:].eq(-1).all()
    assert phones[1].eq(-1).all() and phones[2].eq(1).all()


BAD_TABLES = [("a\tb\n", "has no column"), ("utt_index\tstart_s\tend_s\tphone\n0\tx\t1\ta\n", "line 2")]


@pytest.mark.parametrize("text, said", BAD_TABLES)
def test_a_table_that_is_no_alignment_is_named(tmp_path, text, said):
    (tmp_path / "x.phn").write_text(text)
    with pytest.raises(UserError, match=rf"x\.phn.*{said}"):
        read_alignment(tmp_path / "x.phn")


def test_bad_audio_is_an_error_that_names_the_file(tmp_path):
    write_manifest(tmp_path, seconds=SECONDS)
    truncate(tmp_path / "train" / "0001.flac")
    model = BirqModel.build_model(tiny_config(BirqConfig)).eval()
    with pytest.raises(UserError, match="0001.flac"):
        collect(model, tmp_path / "train.tsv", ["raw_input"])


def test_a_model_comes_back_from_its_checkpoint_with_its_targets(tmp_path):
    model = write_birq_checkpoint(tmp_path / "c.pt")
    loaded = BirqModel.from_checkpoint(tmp_path / "c.pt")
    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters()))
    assert loaded.targets["raw_input"].fingerprint() == model.targets["raw_input"].fingerprint()
