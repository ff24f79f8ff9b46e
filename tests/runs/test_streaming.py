"""A streaming encoder through fairseq: a run that goes on is the run that went through, and its checkpoint streams."""

import pytest
import torch

from fairseq_birq import load_encoder
from tests.fixtures import runs
from tests.fixtures.audio import tone

CHUNKS = {"prob": 0.7, "min_ms": 40.0, "max_ms": 400.0, "left_prob": 0.5, "min_left": 0, "max_left": 3}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    runs.write_corpus(folder)
    return folder


def changes(updates, **chunks):
    model = {"chunks": {**CHUNKS, **chunks}, "encoder": {"causal": True}, "frontend": {"feature_norm": "running"}}
    return {"model": model, "optimization": {"max_update": updates}}


def test_a_run_goes_on_bit_for_bit_and_its_encoder_streams(repository, corpus, tmp_path):
    for name, ends in {"whole": (4,), "parts": (2, 4)}.items():
        for updates in ends:
            cfg = runs.settings(repository, "birq", corpus, tmp_path / name, changes(updates))
            runs.train(cfg, tmp_path / f"{name}.log")
    runs.assert_same(*(runs.state(tmp_path / name) for name in ("whole", "parts")))
    encoder, wave = load_encoder(tmp_path / "whole" / "checkpoint_last.pt"), torch.from_numpy(tone(1.3))
    with torch.no_grad():
        whole = encoder(wave[None], chunks=encoder.chunks(160, 2)).last
    stream = encoder.stream(160, 2)
    streamed = [stream.push(piece).last for piece in wave.split(1000)] + [stream.finish().last]
    torch.testing.assert_close(torch.cat(streamed, dim=1), whole, atol=1e-4, rtol=0)


def test_a_chunk_shorter_than_a_frame_stops_the_run_before_it_begins(repository, corpus, tmp_path):
    cfg = runs.settings(repository, "birq", corpus, tmp_path / "run", changes(2, min_ms=10.0))
    output = runs.train(cfg, tmp_path / "log", status=2)
    assert "`model.chunks.min_ms` of 10 ms is shorter than an encoder frame" in output and "Traceback" not in output
