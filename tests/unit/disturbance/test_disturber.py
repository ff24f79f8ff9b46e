"""Disturbed input: exact ratios and convolutions, draws by keys alone, and clean targets."""

import copy

import numpy as np
import pytest
import torch

from fairseq_birq.builders import build_frontend
from fairseq_birq.config import BirqConfig
from fairseq_birq.disturbance import DISTURBANCES, build_disturber
from fairseq_birq.disturbance.base import Batch
from fairseq_birq.disturbance.disturber import start
from fairseq_birq.disturbance.reverberation import convolve, from_direct_sound
from fairseq_birq.errors import UserError
from fairseq_birq.objective.masking import utterance_keys
from fairseq_birq.settings import from_dict
from tests.fixtures import models
from tests.fixtures.audio import write_audio

SECONDS = (1.0, 0.6, 0.8, 0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Manifests of two noises, one of them shorter than most utterances, and of two impulse responses."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    rows = {"noises": [], "rooms": []}
    for index, seconds in enumerate((0.3, 1.7)):
        rows["noises"].append(0.2 * rng.standard_normal(int(seconds * 16000)))
        decay = np.exp(-np.arange(3000 + 500 * index) / 600)
        tail = 0.2 * rng.standard_normal(decay.size) * decay
        rows["rooms"].append(np.concatenate([0.01 * rng.standard_normal(40), [1.0], tail]))
    for name, waves in rows.items():
        lines = [str(folder)]
        for index, wave in enumerate(waves):
            write_audio(folder / f"{name}{index}.wav", wave)
            lines.append(f"{name}{index}.wav\t{len(wave)}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def settings(folder, prob=1.0, **changes):
    """All kinds with one probability; changes: of kinds, None takes one out."""
    all_kinds = {name: {"prob": prob} for name in DISTURBANCES}
    all_kinds["noise"]["manifest"], all_kinds["reverberation"]["manifest"] = f"{folder}/noises.tsv", f"{folder}/rooms.tsv"
    for name, change in changes.items():
        all_kinds[name] = {**all_kinds[name], **change} if change is not None else {}
    return all_kinds


def only(folder, name, **changes):
    return settings(folder, **{other: None for other in DISTURBANCES if other != name}, **{name: changes})


def disturber(disturbance):
    cfg = from_dict(BirqConfig, {"disturbance": disturbance})
    return build_disturber(cfg.disturbance, build_frontend(cfg.frontend, 8))


def batch(seconds=SECONDS, ids=None, update=3, extra_padding=0.0):
    inputs = models.batch(seconds, ids=torch.arange(len(seconds)) if ids is None else ids, extra_padding=extra_padding)
    num_samples = [int(16000 * one) for one in seconds]
    keys = utterance_keys(1, update, inputs["ids"])
    return Batch(inputs["waveform"], inputs["padding_mask"], inputs["ids"], keys, num_samples)


def part_of(given, rows):
    tensors = (given.waveform, given.padding_mask, given.ids, given.keys)
    return Batch(*(one[rows] for one in tensors), [given.num_samples[row] for row in rows])


def power_db(wave):
    return 10 * np.log10(np.square(wave.numpy().astype(np.float64)).mean())


def test_noise_has_the_drawn_ratio_over_each_utterances_own_samples(folder):
    given, noisy = batch(), disturber(only(folder, "noise", min_snr_db=3.0, max_snr_db=9.0))
    heard = noisy(given)
    (kind,) = noisy.kinds
    drawn = 3.0 + 6.0 * kind.draws(given.keys, 3)[2].numpy()
    found = []
    for row, samples in enumerate(given.num_samples):
        clean = given.waveform[row, :samples]
        found.append(power_db(clean) - power_db(heard.x[row, :samples] - clean))
        assert not heard.x[row, samples:].any()
    assert np.allclose(found, drawn, atol=1e-3) and np.ptp(drawn) > 1
    assert heard.realised["noise"] == 4 and heard.realised["noise_snr_db"].item() == pytest.approx(drawn.sum())


def test_noise_is_a_piece_of_a_recording_that_goes_round(folder):
    given, noisy = batch(), disturber(only(folder, "noise"))
    heard, (kind,) = noisy(given), noisy.kinds
    which, place, _ = (drawn.numpy() for drawn in kind.draws(given.keys, 3))
    bank = kind.recordings
    for row, samples in enumerate(given.num_samples):
        index = int(which[row] * 2)
        first, length = int(bank.starts[index]), int(bank.lengths[index])
        noise = np.roll(bank.samples(torch.device("cpu")).numpy()[first : first + length], -int(place[row] * length))
        noise = np.resize(noise, samples)
        added = (heard.x[row, :samples] - given.waveform[row, :samples]).numpy()
        assert np.allclose(added / np.linalg.norm(added), noise / np.linalg.norm(noise), atol=1e-4)


def test_overlapped_speech_is_a_partners_at_the_drawn_ratio_place_and_length(folder):
    given, mixed = batch(), disturber(only(folder, "overlap", min_share=0.2, max_share=0.5))
    heard, (kind,) = mixed(given), mixed.kinds
    share, here, there, level = (drawn.numpy() for drawn in kind.draws(given.keys, 4))
    for row, samples in enumerate(given.num_samples):
        clean = given.waveform[row, :samples]
        added = (heard.x[row, :samples] - clean).numpy().astype(np.float64)
        count = round((0.2 + 0.3 * share[row]) * samples)
        begin = int(here[row] * (samples - count + 1))
        matches = []
        for other, theirs in enumerate(given.num_samples):
            if other != row and theirs >= count:
                start = int(there[row] * (theirs - count + 1))
                speech = given.waveform[other, :theirs]
                gain = 10 ** ((power_db(clean) - power_db(speech) - (-5 + 10 * level[row])) / 20)
                expected = np.zeros(samples)
                expected[begin : begin + count] = gain * speech[start : start + count].numpy()
                matches.append(np.allclose(added, expected, atol=1e-6))
        assert sum(matches) == 1
    assert heard.realised["overlap"] == 4


def test_overlap_does_not_depend_on_the_order_of_the_batch_and_needs_two(folder):
    mixed = disturber(only(folder, "overlap"))
    order = [2, 0, 3, 1]
    given = batch()
    turned = part_of(given, order)
    assert torch.equal(mixed(turned).x, mixed(given).x[order])
    alone = mixed(batch([1.0]))
    assert torch.equal(alone.x, batch([1.0]).waveform) and alone.realised["overlap"] == 0


def test_reverberation_is_numpys_convolution_from_the_direct_sound_on(folder):
    given, room = batch(), disturber(only(folder, "reverberation"))
    heard, (kind,) = room(given), room.kinds
    which = (kind.draws(given.keys, 1)[0] * 2).long().tolist()
    assert set(which) == {0, 1}
    samples = kind.recordings.samples(torch.device("cpu")).numpy().astype(np.float64)
    for row, count in enumerate(given.num_samples):
        first, length = int(kind.recordings.starts[which[row]]), int(kind.recordings.lengths[which[row]])
        response = samples[first : first + length]
        expected = np.convolve(given.waveform[row, :count].numpy().astype(np.float64), response)[:count]
        assert np.allclose(heard.x[row, :count].numpy(), expected, atol=1e-5)
        assert not heard.x[row, count:].any()


def test_a_response_begins_with_its_strongest_sample_and_has_unit_energy():
    response = from_direct_sound(np.array([0.1, 0.0, -2.0, 1.0, 0.5]), 2)
    assert np.allclose(response, np.array([-2.0, 1.0]) / np.sqrt(5))


@pytest.mark.parametrize("samples, length", [(1, 1), (5, 9), (16, 3), (4000, 700), (1000, 1)])
def test_convolution_in_blocks_is_that_of_the_whole(samples, length):
    generator = torch.Generator().manual_seed(0)
    x, responses = (torch.randn(2, size, generator=generator) for size in (samples, length))
    expected = np.array([np.convolve(*(one.double().numpy() for one in pair))[:samples] for pair in zip(x, responses)])
    assert np.allclose(convolve(x.double(), responses.double()).numpy(), expected, atol=1e-9)
    assert np.allclose(convolve(x, responses).numpy(), expected, atol=2e-6 * np.abs(expected).max())


def test_row_by_row_is_what_all_together_are(folder):
    """The first is a CPU's way, the second other devices'."""
    room = disturber(only(folder, "reverberation")).kinds[0]
    room.open()
    heard = []
    for way in (room._row_by_row, room._together):
        disturbed, rows = start(batch(extra_padding=0.3), torch.arange(len(SECONDS))), torch.tensor([0, 1, 3])
        way(disturbed, rows, torch.tensor([1, 0, 1]))
        heard.append(disturbed.x)
    assert torch.allclose(*heard, atol=1e-6) and not torch.equal(heard[0][3], batch(extra_padding=0.3).waveform[3])


def test_volume_is_the_drawn_one(folder):
    given, loud = batch(), disturber(only(folder, "volume"))
    (kind,) = loud.kinds
    drawn = -10 + 20 * kind.draws(given.keys, 1)[0]
    assert torch.allclose(loud(given).x, given.waveform * (10 ** (drawn / 20)).float()[:, None])


def test_silence_stays_silent_and_is_not_counted(folder):
    given, noisy = batch(), disturber(only(folder, "noise"))
    given.waveform[1] = 0.0
    heard = noisy(given)
    assert not heard.x[1].any() and heard.x.isfinite().all() and heard.realised["noise"] == 3


def test_draws_are_functions_of_seed_update_and_id(folder):
    """So a run that goes on, and several processes, hear what one process would have heard."""
    for name in ("noise", "reverberation", "volume"):
        changes = only(folder, name, prob=0.6)
        whole, again = disturber(changes)(batch()), disturber(changes)(batch())
        assert torch.equal(whole.rows, again.rows) and torch.equal(whole.x, again.x)
        parts = []
        for rows in ([0, 1], [2, 3]):
            parts.append(disturber(changes)(part_of(batch(), rows)))
        assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
        for key, value in whole.realised.items():
            assert value.item() == pytest.approx(sum(part.realised[key].item() for part in parts))
        other = [disturber(changes)(batch(update=update)).rows.tolist() for update in range(8)]
        assert len({tuple(rows) for rows in other}) > 3


def test_padding_changes_nothing(folder):
    changes = settings(folder)
    whole, padded = disturber(changes)(batch()), disturber(changes)(batch(extra_padding=0.7))
    assert torch.allclose(padded.x[:, : whole.x.shape[1]], whole.x, atol=1e-5) and not padded.x[:, whole.x.shape[1] :].any()


def test_realised_shares_are_the_probabilities(folder):
    noisy = disturber(settings(folder, prob=0.3))
    keys = utterance_keys(1, 1, torch.arange(20000))
    hits = torch.stack([kind.hits(keys) for kind in noisy.kinds]).double()
    assert torch.allclose(hits.mean(1), torch.full((4,), 0.3, dtype=torch.float64), atol=0.015)  # 4.6 standard deviations
    assert torch.corrcoef(hits).fill_diagonal_(0).abs().max() < 0.035  # 5 standard deviations


TARGETS = {
    "use": ["raw_input", "own_layer", "snapshot"],
    "own_layer": {"layers": [1], "shared_head": False},
    "snapshot": {"layers": [1], "target_updates": [1]},
}


@pytest.mark.parametrize("frontend, encoder", [("logmel", "conformer"), ("waveform", "transformer")])
def test_targets_are_those_of_clean_speech_bit_for_bit_and_predictions_are_not(folder, frontend, encoder):
    seen = {}
    for name, changes in {"clean": {}, "disturbed": settings(folder)}.items():
        model = models.build(frontend, encoder, targets=TARGETS, disturbance=changes).train()
        model.set_num_updates(3)
        given = {}
        for source in model.targets.values():
            source.register_forward_hook(lambda source, inputs, _, given=given: given.update({source.name: inputs[0]}))
        seen[name] = (model(**models.batch(SECONDS)), given)
    (clean, clean_given), (noisy, noisy_given) = seen["clean"], seen["disturbed"]
    assert clean.num_masked == noisy.num_masked > 0
    for name in TARGETS["use"]:
        before, after = clean_given[name], noisy_given[name]
        assert torch.equal(before.waveform, after.waveform) and torch.equal(before.features.x, after.features.x)
        assert all(torch.equal(before.hidden[layer], after.hidden[layer]) for layer in before.hidden)
        assert torch.equal(clean.terms[name].codes, noisy.terms[name].codes)
        assert not torch.equal(clean.terms[name].loss_sum, noisy.terms[name].loss_sum)
    assert clean.realised is None and noisy.realised["disturbed"] == 4


def test_nothing_is_disturbed_in_validation_or_where_all_is_off(folder):
    plain, off, on = (models.build(disturbance=one) for one in ({}, settings(folder, prob=0.0), settings(folder)))
    assert plain.disturber is None and off.disturber is None and on.disturber is not None
    inputs = models.batch(SECONDS)
    assert torch.equal(plain.eval()(**inputs).loss, on.eval()(**inputs).loss)
    assert plain.state_dict().keys() == on.state_dict().keys()


def test_an_empty_batch_is_heard_too(folder):
    model = models.build(disturbance=settings(folder)).train()
    output = model(torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64))
    output.loss.backward()
    assert output.loss.item() == 0 and output.realised["utterances"] == 0


def test_masked_views_hear_the_same(folder):
    model = models.build(disturbance=settings(folder), masked_views=2).train()
    assert model(**models.batch(SECONDS)).realised["utterances"] == 4


def test_copies_of_a_model_share_the_recordings(folder):
    noisy = disturber(only(folder, "noise"))
    noisy.open()
    assert copy.deepcopy(noisy).kinds[0].recordings is noisy.kinds[0].recordings


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"noise": {"prob": 1.5}}, ("model.disturbance.noise.prob", "1.5")),
        ({"volume": {"prob": -0.1}}, ("model.disturbance.volume.prob", "-0.1")),
        ({"noise": {"min_snr_db": 10.0, "max_snr_db": 5.0}}, ("min_snr_db", "exchange")),
        ({"overlap": {"min_share": 0.6}}, ("min_share", "exchange")),
        ({"overlap": {"max_share": 1.2}}, ("max_share", "1.2")),
        ({"noise": {"manifest": None}}, ("model.disturbance.noise.manifest", "birq-manifest")),
        ({"noise": {"max_minutes": 0.0}}, ("model.disturbance.noise.max_minutes", "above 0")),
        ({"reverberation": {"max_ms": 0.0}}, ("max_ms", "above 0")),
    ],
)
def test_settings_that_cannot_be_are_said(folder, changes, words):
    with pytest.raises(UserError) as error:
        disturber(settings(folder, **changes))
    assert all(word in str(error.value) for word in words)
