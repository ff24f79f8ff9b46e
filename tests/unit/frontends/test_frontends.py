"""The contract of every frontend in the registry."""

import random

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.frontends import FRONTENDS
from fairseq_birq.frontends.waveform import WaveformFrontend
from fairseq_birq.structs import Features
from tests.fixtures.audio import waveform_batch

SMALLER = {"waveform": {"waveform_dim": 32}}  # than its defaults, which are the model's


@pytest.fixture(params=sorted(FRONTENDS))
def frontend(request):
    torch.manual_seed(0)
    return FRONTENDS[request.param](dim=16, **SMALLER.get(request.param, {})).eval()


def run(frontend, waveform, padding_mask=None):
    features = frontend.features(waveform, padding_mask)
    return features, *frontend.subsample(features)


@torch.no_grad()
def test_length_formulas_equal_real_lengths(frontend):
    draw = random.Random(0)
    lengths = [0, 1, 399, 400, 401, 560, 1040] + [draw.randrange(300, 12000) for _ in range(50)]
    for num_samples in lengths:
        features, hidden, padding_mask = run(frontend, 0.1 * torch.randn(1, num_samples))
        assert features.x.shape == (1, frontend.feature_length(num_samples), frontend.feature_dim)
        assert hidden.shape == (1, frontend.output_length(num_samples), frontend.dim)
        assert padding_mask.shape == hidden.shape[:2]
    as_tensors = frontend.output_length(torch.tensor(lengths))
    assert as_tensors.tolist() == [frontend.output_length(length) for length in lengths]


@torch.no_grad()
def test_valid_lengths_in_a_batch_are_those_of_each_utterance(frontend):
    draw = random.Random(1)
    lengths = torch.tensor([draw.randrange(300, 12000) for _ in range(50)])
    padding_mask = torch.arange(int(lengths.max())) >= lengths[:, None]
    features, _, hidden_padding = run(frontend, torch.zeros(padding_mask.shape), padding_mask)
    assert torch.equal((~features.padding_mask).sum(1), frontend.feature_length(lengths))
    assert torch.equal((~hidden_padding).sum(1), frontend.output_length(lengths))


@torch.no_grad()
def test_padding_does_not_matter_whatever_stands_in_it(frontend):
    waveform, padding_mask, _ = waveform_batch(0.9, 0.5, 0.313)
    features, hidden, _ = run(frontend, waveform.masked_fill(padding_mask, 0.7), padding_mask)
    for row, valid in enumerate(~padding_mask):
        alone_features, alone, _ = run(frontend, waveform[row : row + 1, valid])
        torch.testing.assert_close(features.x[row, : alone_features.x.shape[1]], alone_features.x[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(hidden[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)
        assert (features.x[row, alone_features.x.shape[1] :] == 0).all()
        assert (hidden[row, alone.shape[1] :] == 0).all()


def test_no_valid_step_sees_a_frame_after_the_end(frontend):
    num_frames, length = 43, 22
    x = torch.randn(2, num_frames, frontend.feature_dim, requires_grad=True)
    padding_mask = torch.arange(num_frames) >= torch.tensor([[num_frames], [length]])
    hidden, hidden_padding = frontend.subsample(Features(x, padding_mask))
    hidden.square().sum().backward()
    assert (~hidden_padding).sum(1).tolist() == [num_frames // frontend.frames_per_step, length // frontend.frames_per_step]
    assert (x.grad[1, length:] == 0).all() and (x.grad[1, : length - 3] != 0).any(1).all()


def test_a_frontend_that_hears_the_whole_utterance_says_that_it_cannot_stream(frontend):
    """That of the defaults does."""
    with pytest.raises(UserError, match="whole utterance, whose end a stream has not heard"):
        frontend.check_streams()


@torch.no_grad()
def test_louder_input_gives_the_same_features(frontend):
    waveform, padding_mask, _ = waveform_batch(0.5)
    quiet, loud = frontend.features(0.5 * waveform, padding_mask), frontend.features(waveform, padding_mask)
    torch.testing.assert_close(quiet.x, loud.x, atol=2e-2, rtol=0)


@torch.no_grad()
def test_finite_in_bfloat16(frontend):
    waveform, padding_mask, _ = waveform_batch(0.5, 0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run(frontend, waveform, padding_mask)[1].isfinite().all()
    assert run(frontend.bfloat16(), waveform, padding_mask)[1].isfinite().all()


@torch.no_grad()
def test_silence_is_finite(frontend):
    padding_mask = torch.arange(8000) >= torch.tensor([[8000], [410], [0]])
    features, hidden, _ = run(frontend, torch.zeros(3, 8000), padding_mask)
    assert features.x.isfinite().all() and hidden.isfinite().all()


def test_waveform_layers_need_a_kernel_and_a_stride_each():
    with pytest.raises(UserError, match="waveform_strides"):
        WaveformFrontend(dim=8, kernels=[10, 3], strides=[5])
