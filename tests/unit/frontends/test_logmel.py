import random

import numpy as np
import pytest
import soundfile
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.frontends.logmel import LogMel, mel_filters, normalise_utterance, stack_frames
from fairseq_birq.structs import Features
from tests.fixtures.audio import tone, waveform_batch


def speech(mboshi, count):
    """The first `count` utterances of Mboshi's dev split, each (S,) float32."""
    rows = (mboshi / "dev.tsv").read_text().splitlines()[1 : count + 1]
    return [torch.from_numpy(soundfile.read(str(mboshi / row.split("\t")[0]), dtype="float32")[0]) for row in rows]


def kaldi_log_mel(wave):
    fbank = pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed")
    options = fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = 80
    online = fbank.OnlineFbank(options)
    online.accept_waveform(16000, (wave.numpy() * 32768).tolist())
    online.input_finished()
    return torch.from_numpy(np.stack([online.get_frame(i) for i in range(online.num_frames_ready)]))


def test_agrees_with_kaldi_on_real_speech(mboshi):
    for wave in speech(mboshi, 20):
        torch.testing.assert_close(LogMel()(wave[None]).x[0], kaldi_log_mel(wave), atol=1e-3, rtol=0)


def test_agrees_with_kaldi_on_tones():
    wave = (torch.from_numpy(tone(1.0)) * 32768).round() / 32768
    torch.testing.assert_close(LogMel()(wave[None]).x[0], kaldi_log_mel(wave), atol=1e-3, rtol=0)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_rows_are_bit_identical_alone_and_in_any_batch(num_threads):
    waves = [torch.from_numpy(tone(0.3 + 0.217 * index, seed=index)) for index in range(12)]
    log_mel, draw, threads = LogMel(), random.Random(0), torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        alone = [log_mel(wave[None]) for wave in waves]
        for _ in range(10):
            rows = draw.sample(range(len(waves)), draw.choice([2, 3, 5, 8]))
            lengths = torch.tensor([[len(waves[row])] for row in rows])
            batch = torch.nn.utils.rnn.pad_sequence([waves[row] for row in rows], batch_first=True)
            features = log_mel(batch, torch.arange(batch.shape[1]) >= lengths)
            for features_, alone_ in ((features, alone), (normalise_utterance(features), map(normalise_utterance, alone))):
                expected = list(alone_)
                for index, row in enumerate(rows):
                    assert torch.equal(features_.x[index, : expected[row].x.shape[1]], expected[row].x[0])
    finally:
        torch.set_num_threads(threads)


def test_stays_float32_whatever_the_model_is_cast_to():
    wave = torch.from_numpy(tone(0.3))[None]
    expected = LogMel()(wave).x
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(LogMel()(wave).x, expected)
    assert torch.equal(LogMel().half()(wave).x, expected)
    assert LogMel()(wave.half()).x.dtype == torch.float32


def test_nothing_of_it_is_in_the_state_dict():
    assert not LogMel().state_dict()


def test_a_tone_is_loudest_in_the_filter_around_it():
    filters = mel_filters(80, 512, 16000)
    for hertz in (500.0, 1000.0, 3000.0):
        wave = torch.sin(2 * torch.pi * hertz * torch.arange(1600) / 16000)
        loudest = LogMel()(wave[None]).x[0].mean(0).argmax()
        assert filters[round(hertz / 16000 * 512), loudest] > 0.5


def test_too_many_filters_are_refused():
    with pytest.raises(UserError, match="num_mels"):
        LogMel(num_mels=400)


def test_normalised_features_have_zero_mean_and_unit_variance_over_valid_frames():
    features = normalise_utterance(LogMel()(*waveform_batch(0.8, 0.4)[:2]))
    for x, padding in zip(features.x, features.padding_mask):
        assert x[~padding].mean(0).abs().max() < 1e-5
        torch.testing.assert_close(x[~padding].var(0, unbiased=False), torch.ones(80), atol=1e-4, rtol=0)
        assert (x[padding] == 0).all()


def test_normalising_constants_and_single_frames_is_finite_and_zero():
    padding_mask = torch.arange(5) >= torch.tensor([[5], [1], [0]])
    features = normalise_utterance(Features(torch.full((3, 5, 2), 7.25), padding_mask))
    assert (features.x == 0).all()


def counting(num_frames, lengths):
    x = torch.arange(1.0, num_frames + 1).repeat(len(lengths), 1)
    padding_mask = torch.arange(num_frames) >= torch.tensor(lengths)[:, None]
    return Features(x.masked_fill(padding_mask, 0)[..., None], padding_mask)


def test_stacks_are_consecutive_frames_and_leave_the_remainder_out():
    stacked = stack_frames(counting(11, [11, 9]), 4)
    assert stacked.x.tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8]]] * 2
    assert stack_frames(counting(11, [11, 7]), 4).padding_mask.tolist() == [[False, False], [False, True]]
    assert (stack_frames(counting(11, [11, 7]), 4).x[1, 1] == 0).all()


def test_stacks_repeat_the_last_frame_where_more_are_wanted():
    stacked = stack_frames(counting(5, [5, 3]), 2, num_stacks=torch.tensor([3, 2]))
    assert stacked.x.tolist() == [[[1, 2], [3, 4], [5, 5]], [[1, 2], [3, 3], [0, 0]]]
    assert stacked.padding_mask.tolist() == [[False] * 3, [False, False, True]]


def test_stacks_fill_the_width_that_is_asked_for():
    stacked = stack_frames(counting(5, [3]), 2, num_stacks=torch.tensor([1]), width=4)
    assert stacked.x.shape == (1, 4, 2) and (~stacked.padding_mask).sum() == 1
