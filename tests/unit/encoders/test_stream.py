"""A stream gives at every chunk what the whole recording gives with the same chunks."""

import random

import numpy as np
import pytest
import torch

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.config import BirqConfig
from fairseq_birq.errors import UserError
from fairseq_birq.settings import from_dict
from fairseq_birq.structs import Chunks
from tests.fixtures.audio import tone

VARIANTS = {
    "rotary": {},
    "relative": {"positions": "relative"},
    "rotary-window": {"attention_window": 5},
    "relative-window": {"positions": "relative", "attention_window": 5},
    "no-kernel": {"conv_kernel": 1},
}


def build(frontend=None, **encoder):
    sizes = {"num_layers": 3, "dim": 16, "ffn_dim": 32, "num_heads": 2, "conv_kernel": 7, "causal": True}
    cfg = from_dict(BirqConfig, {"frontend": {"feature_norm": "running", **(frontend or {})}, "encoder": {**sizes, **encoder}})
    torch.manual_seed(0)
    made = build_speech_encoder(cfg.frontend, cfg.encoder).eval()
    for parameter in made.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return made


def recording(samples, seed=0):
    """A tone whose loudness changes, and noise."""
    wave = torch.from_numpy(tone(samples / 16000, seed=seed))[:samples]
    return wave * torch.linspace(0.01, 1.0, samples) + 0.01 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def hidden(encoded):
    return torch.stack([encoded.subsampled, *encoded.layers])


@torch.no_grad()
def streamed(encoder, wave, chunk_ms, left, seed=0):
    """What each push gave, of pieces of random sizes."""
    stream, draw, begin, found = encoder.stream(chunk_ms, left), random.Random(seed), 0, []
    while begin < len(wave):
        size = draw.choice([0, 1, 37, 160, 640, 5000, 20000])
        found.append(hidden(stream.push(wave[begin : begin + size])))
        begin += size
    return [*found, hidden(stream.finish())]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("chunk_ms,left", [(40, 1), (200, 0), (200, 3), (640, None)])
def test_a_stream_gives_what_the_whole_recording_gives_in_the_same_chunks(variant, chunk_ms, left):
    encoder = build(**VARIANTS[variant])
    for samples in (399, 880, 26111):
        wave = recording(samples)
        with torch.no_grad():
            whole = hidden(encoder(wave[None], chunks=encoder.chunks(chunk_ms, left)))
        got = torch.cat(streamed(encoder, wave, chunk_ms, left), dim=2)
        assert got.shape == whole.shape
        torch.testing.assert_close(got, whole, atol=1e-4, rtol=0)


@torch.no_grad()
def test_every_chunk_comes_as_soon_as_its_samples_are_there():
    encoder, wave = build(), recording(16000)
    stream, frames = encoder.stream(200, 2), []
    assert stream.latency_ms == 215.0  # a chunk, and what a window has beyond its hop
    for begin in range(0, 16000, 16):  # a millisecond
        frames.append(stream.push(wave[begin : begin + 16].numpy()).last.shape[1])
    arrived = [1 + index for index, count in enumerate(frames) if count]
    assert arrived == [215, 415, 615, 815] and set(frames) == {0, 5}
    assert stream.finish().last.shape == (1, 4, 16)
    assert encoder.output_length(16000) == 24


@torch.no_grad()
def test_chunks_change_what_is_seen_and_no_frame_sees_beyond_its_own():
    encoder, wave = build(num_layers=1), recording(16000)
    chunks, other = encoder.chunks(200, 1), wave.clone()
    other[4 * 3200 :] = 0.3 * torch.randn(len(wave) - 4 * 3200, generator=torch.Generator().manual_seed(9))
    first, second = (encoder(each[None], chunks=chunks).last for each in (wave, other))
    same = (first == second).all(-1)[0].tolist()
    assert same[:15] == [True] * 15 and not any(same[20:])  # frames 15 to 19 hear the change through their windows
    assert not torch.allclose(encoder(wave[None]).last, first, atol=1e-3)
    assert not torch.allclose(encoder(wave[None], chunks=encoder.chunks(200, None)).last[:, 15:], first[:, 15:], atol=1e-4)


@torch.no_grad()
def test_memory_of_a_stream_is_bounded_where_left_context_is():
    encoder = build()
    stream = encoder.stream(40, 3)
    for seed in range(5):
        stream.push(recording(8000, seed))
    sizes = {tensor.numel() for layer in stream._past.layers for tensor in layer}
    assert sizes == {3 * 16, 6 * 16} and sum(len(piece) for piece in stream._waiting) < 640 + 240


def test_gradients_of_chunks_reach_the_left_context_alone():
    encoder = build(conv_kernel=1, num_layers=1).encoder
    x = torch.randn(1, 20, 16, requires_grad=True)
    encoder(x, torch.zeros(1, 20, dtype=torch.bool), chunks=Chunks(4, 1)).last[0, 13].square().sum().backward()
    assert (x.grad[0] != 0).any(-1).nonzero().flatten().tolist() == list(range(8, 16))


@pytest.mark.parametrize(
    "chunk_ms,left,message",
    [
        (20, None, "of 20 ms is shorter than an encoder frame: give 40 ms or a multiple"),
        (0, None, "shorter than an encoder frame"),
        (-40, None, "shorter than an encoder frame"),
        (500, None, "give 480 or 520"),
        (float("nan"), None, "must be a number of milliseconds"),
        ("640", None, "must be a number of milliseconds, but is '640'"),
        (40, -1, "must be a whole number of chunks"),
        (40, 1.5, "must be a whole number of chunks"),
    ],
)
def test_chunks_that_cannot_be_are_refused(chunk_ms, left, message):
    with pytest.raises(UserError, match=message):
        build().stream(chunk_ms, left)


def test_encoders_that_see_the_future_are_refused():
    for made, message in (
        (build(causal=False), "model.encoder.causal: true"),
        (build({"feature_norm": "utterance"}), "feature_norm: running"),
        (build({"name": "waveform", "waveform_dim": 16}), "model.frontend.name: logmel"),
        (build().train(), "encoder.eval"),
    ):
        with pytest.raises(UserError, match=message):
            made.stream(40)
    with pytest.raises(UserError, match="model.encoder.causal: true"):
        build(causal=False)(torch.zeros(1, 16000), chunks=build().chunks(40))


def test_bad_pushes_are_refused():
    stream = build().stream(40)
    for wave, message in (
        (torch.zeros(2, 100), "one recording"),
        (np.zeros(100, dtype=np.int16), "floats in"),
    ):
        with pytest.raises(UserError, match=message):
            stream.push(wave)
    assert stream.finish().last.shape == (1, 0, 16)
    for call in (lambda: stream.push(torch.zeros(1)), stream.finish):
        with pytest.raises(UserError, match="finished"):
            call()
