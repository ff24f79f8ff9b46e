"""MFCC against Kaldi's, alone and in a batch; differences of a ramp."""

import numpy as np
import pytest
import torch

from fairseq_birq.frontends.mfcc import Mfcc, differences
from tests.fixtures.audio import tone

SECONDS = (0.7, 1.53, 0.02, 0.03)


def test_cepstra_are_kaldis():
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.MfccOptions()
    options.frame_opts.dither, options.num_ceps, options.mel_opts.num_bins, options.use_energy = 0.0, 13, 23, False
    for seed in range(3):
        wave, computer = tone(1.0 + 0.1 * seed, seed=seed), knf.OnlineMfcc(options)
        computer.accept_waveform(16000, (wave * 32768).tolist())
        computer.input_finished()
        expected = np.stack([computer.get_frame(t) for t in range(computer.num_frames_ready)])
        ours = Mfcc()(torch.from_numpy(wave)[None]).x[0]
        assert ours.shape == (len(expected), 39)
        assert np.abs(ours[:, :13].numpy() - expected).max() < 2e-3 < 0.01 * np.abs(expected).max()


def test_an_utterance_has_the_same_features_in_a_batch():
    module, waves = Mfcc(), [torch.from_numpy(tone(seconds, seed=index)) for index, seconds in enumerate(SECONDS)]
    samples = max(map(len, waves))
    padding_mask = torch.arange(samples) >= torch.tensor([len(wave) for wave in waves])[:, None]
    batch = module(torch.stack([torch.nn.functional.pad(wave, (0, samples - len(wave))) for wave in waves]), padding_mask)
    assert (~batch.padding_mask).sum(1).tolist() == [68, 151, 0, 1]
    for row, wave in enumerate(waves):
        alone = module(wave[None]).x[0]
        assert torch.equal(batch.x[row, : len(alone)], alone) and not batch.x[row, len(alone) :].any()


def test_differences_are_slopes_that_stop_at_the_ends():
    ramp = torch.arange(8.0)[None, :, None].repeat(2, 1, 1)
    found = differences(ramp, torch.tensor([8, 5]))[..., 0]
    assert found[0].tolist() == pytest.approx([0.5, 0.8, 1, 1, 1, 1, 0.8, 0.5])
    assert found[1, :5].tolist() == pytest.approx([0.5, 0.8, 1, 0.8, 0.5])
