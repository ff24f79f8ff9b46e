"""Hidden states of a corpus: all layers, once, the encoder untouched."""

import copy

import numpy as np
import pytest
import soundfile
import torch

from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.errors import UserError
from fairseq_birq.tools.probes.states import StateStore, extract
from tests.fixtures.audio import truncate
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_manifest

SECONDS = (1.0, 1.53, 0.7)


@pytest.fixture
def encoder(tmp_path):
    write_manifest(tmp_path, seconds=SECONDS)
    write_birq_checkpoint(tmp_path / "c.pt", dropout=0.5, attention_dropout=0.5)
    return load_encoder(tmp_path / "c.pt")


def alone(encoder, folder):
    waves = [soundfile.read(str(folder / "train" / f"{row:04d}.flac"), dtype="float32")[0] for row in range(len(SECONDS))]
    found = [encoder(torch.from_numpy(wave)[None]) for wave in waves]
    return [torch.stack([encoded.subsampled, *encoded.layers], dim=2)[0].detach() for encoded in found]


@pytest.mark.parametrize("memory_bytes", [1 << 30, 0])
def test_states_are_those_of_each_utterance_alone_in_memory_and_on_disk(encoder, tmp_path, memory_bytes):
    store = extract(encoder, tmp_path / "train.tsv", memory_bytes=memory_bytes)
    assert isinstance(store.states, np.memmap) == (memory_bytes == 0) and store.states.dtype == np.float16
    expected = alone(encoder, tmp_path)
    x, lengths = store.batch([2, 0])
    assert lengths.tolist() == [len(expected[2]), len(expected[0])] and x.shape[2:] == (3, 16)
    for place, row in enumerate((2, 0)):
        assert torch.allclose(x[place, : lengths[place]], expected[row], atol=5e-3)
    assert x[0, lengths[0] :].abs().sum() == 0


def test_means_alone_are_the_means_of_all_frames(encoder, tmp_path):
    means = extract(encoder, tmp_path / "train.tsv", needs_frames=False)
    expected = torch.stack([states.mean(0) for states in alone(encoder, tmp_path)])
    assert means.lengths.tolist() == [1] * 3 and means.states.dtype == np.float32
    assert torch.allclose(torch.from_numpy(means.states), expected, atol=1e-5)
    assert torch.allclose(torch.from_numpy(extract(encoder, tmp_path / "train.tsv").means().states), expected, atol=5e-3)


def test_layers_can_be_normalised(encoder, tmp_path):
    x = torch.from_numpy(extract(encoder, tmp_path / "train.tsv", normalise=True).states).float()
    assert x.mean(-1).abs().max() < 1e-2 and (x.std(-1, unbiased=False) - 1).abs().max() < 1e-2


def test_the_encoder_is_in_eval_mode_and_stays_as_it_is(encoder, tmp_path):
    before = copy.deepcopy(encoder.state_dict())
    first, again = (extract(encoder, tmp_path / "train.tsv").states for _ in range(2))
    assert np.array_equal(first, again) and not encoder.training
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    with pytest.raises(ValueError, match="eval mode"):
        extract(encoder.train(), tmp_path / "train.tsv")


def test_what_does_not_fit_float16_is_an_error(encoder, tmp_path):
    with torch.no_grad():
        encoder.encoder.layers[1].final_norm.weight.mul_(1e6)
    with pytest.raises(UserError, match="do not fit float16.*normalise-layers"):
        extract(encoder, tmp_path / "train.tsv")
    extract(encoder, tmp_path / "train.tsv", normalise=True)


def test_bad_and_short_audio_are_named(encoder, tmp_path):
    write_manifest(tmp_path, "short", seconds=(1.0, 0.05))
    with pytest.raises(UserError, match="short/0001.flac: is too short for one encoder frame"):
        extract(encoder, tmp_path / "short.tsv")
    truncate(tmp_path / "train" / "0001.flac")
    with pytest.raises(UserError, match="0001.flac"):
        extract(encoder, tmp_path / "train.tsv")


def test_a_store_gives_rows_in_any_order():
    store = StateStore(np.arange(6, dtype=np.float16).reshape(6, 1, 1), [1, 3, 2])
    x, lengths = store.batch([2, 1])
    assert x[..., 0, 0].tolist() == [[4, 5, 0], [1, 2, 3]] and lengths.tolist() == [2, 3]
    assert store.means().states.flatten().tolist() == [0, 2, 4.5]
