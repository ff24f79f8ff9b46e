import io
import sys

import numpy as np
import pytest
import torch

from fairseq_birq.cli.transcribe import main
from fairseq_birq.data.audio import read
from fairseq_birq.decoding.greedy import GreedyDecoder, GreedyStream
from fairseq_birq.errors import UserError
from fairseq_birq.tools.transcribe.recogniser import load_recogniser
from fairseq_birq.tools.transcribe.recordings import Recording
from fairseq_birq.tools.transcribe.streaming import StreamingRecogniser
from fairseq_birq.tools.transcribe.words import Failure, words_of
from tests.fixtures.audio import tone, write_audio
from tests.fixtures.checkpoints import write_ctc_checkpoint

STREAMS = {"frontend": {"feature_norm": "running"}, "encoder": {"causal": True}, "upsample": 2}


@pytest.fixture
def folder(tmp_path):
    write_ctc_checkpoint(tmp_path / "ctc.pt", **STREAMS)
    write_ctc_checkpoint(tmp_path / "whole.pt")
    write_audio(tmp_path / "one.wav", tone(2.03))
    write_audio(tmp_path / "two.flac", tone(1.5, 8000), 8000)
    return tmp_path


def test_frames_as_they_come_give_what_all_of_them_give():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        log_probs = (3 * torch.randn(seed, 5, generator=generator)).log_softmax(-1)
        log_probs[1::3] = log_probs[::3][: len(log_probs[1::3])]  # repeats, across pieces too
        stream = GreedyStream(0, forbidden=(1,))
        for piece in log_probs.split(2):
            before = len(stream.hypothesis().tokens)
            assert stream.push(piece) == (len(stream.hypothesis().tokens) > before)
        expected, found = GreedyDecoder(0, forbidden=(1,)).decode_one(log_probs)[0], stream.hypothesis()
        for name in ("tokens", "token_frames", "token_ends"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        torch.testing.assert_close(found.token_scores, expected.token_scores)
        assert found.score == pytest.approx(expected.score, abs=1e-4) and stream.num_frames == seed
        assert torch.equal(stream.hypothesis(2).tokens, expected.tokens[-2:])


@torch.no_grad()
@pytest.mark.parametrize("left", [1, None])
def test_a_recording_has_the_words_of_the_whole_in_the_same_chunks(folder, left):
    recogniser = load_recogniser(folder / "ctc.pt", device="cpu")
    wave, said = torch.from_numpy(read(folder / "one.wav", 16000)[0]), []
    streaming = StreamingRecogniser(recogniser, 200, left)
    (transcript,) = streaming.transcribe([Recording("one", str(folder / "one.wav"))], said.append)
    model, encoder = recogniser.model, recogniser.model.speech_encoder
    hidden = encoder(wave[None], chunks=encoder.chunks(200, left)).last
    log_probs = model.output(hidden).view(-1, len(recogniser.symbols)).log_softmax(-1)
    found = recogniser.decoder()(log_probs[None], torch.tensor([len(log_probs)]))[0][0]
    expected = words_of(found, recogniser.symbols, recogniser.frame_seconds, 0.0, 2.03)
    assert [word.text for word in transcript.words] == [word.text for word in expected] != []
    for ours, theirs in zip(transcript.words, expected):
        assert (ours.start_s, ours.end_s) == (theirs.start_s, theirs.end_s)
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-3)
    name, seconds, shown = said[-1].split("\t")  # of a long text its end
    assert (name, seconds) == ("one", "2.03 s") and transcript.text.endswith(shown) and len(shown) > 40
    assert [line.split("\t")[1] for line in said[:2]] == ["0.40 s", "0.60 s"]  # a chunk is there with a window's rest


def test_the_command(folder, capsys):
    arguments = [str(folder / "ctc.pt"), str(folder / "one.wav"), str(folder / "two.flac"), str(folder / "gone.wav")]
    assert main([*arguments, "--stream", "--chunk-ms", "200", "--left-chunks", "all"]) == 1
    captured = capsys.readouterr()
    texts = [line.split("\t")[1] for line in captured.out.splitlines()]
    assert len(texts) == 2 and all(texts)
    assert "a sound's text comes at most 215 ms after it" in captured.err
    assert f"{folder / 'one.wav'}\t0.40 s\t" in captured.err and "computing took" in captured.err
    assert "gone.wav: no such file" in captured.err


def test_samples_of_stdin(folder, capsys, monkeypatch):
    samples = (tone(1.0) * 32767).astype(np.int16)
    write_audio(folder / "same.wav", samples)
    texts = []
    for audio, content in ((str(folder / "same.wav"), b""), ("-", samples.tobytes() + b"x")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert main([str(folder / "ctc.pt"), audio, "--stream", "--chunk-ms", "120"]) == 0
        texts.append(capsys.readouterr().out.split("\t")[1])
    assert texts[0] == texts[1] != "\n"


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--stream", "--chunk-ms", "20"], "a chunk of 20 ms is shorter than an encoder frame: give 40 ms"),
        (["--stream", "--chunk-ms", "0"], "shorter than an encoder frame"),
        (["--stream", "--chunk-ms", "nan"], "must be a number of milliseconds"),
        (["--stream", "--left-chunks", "-1"], "must be a whole number of chunks"),
        (["--stream", "--left-chunks", "some"], "a whole number or `all`, but is 'some'"),
        (["--stream", "--max-seconds", "5"], "--max-seconds 5.0 would have no effect"),
        (["--stream", "--lexicon", "x"], "leave --lexicon out"),
        (["--chunk-ms", "200"], "--chunk-ms 200.0 would have no effect without --stream"),
        (["--left-chunks", "0"], "--left-chunks 0 would have no effect without --stream"),
        (["-"], "audio from stdin, which only --stream reads"),
    ],
)
def test_mistakes(folder, capsys, arguments, message):
    assert main([str(folder / "ctc.pt"), str(folder / "one.wav"), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and not captured.out, captured.err


def test_a_model_that_cannot_stream(folder):
    with pytest.raises(UserError, match="model.encoder.causal: true"):
        StreamingRecogniser(load_recogniser(folder / "whole.pt", device="cpu"), 200, None)


def test_a_damaged_file_is_left_out(folder):
    (folder / "bad.wav").write_bytes(b"x")
    streaming = StreamingRecogniser(load_recogniser(folder / "ctc.pt", device="cpu"), 200, None)
    (result,) = streaming.transcribe([Recording("bad", str(folder / "bad.wav"))])
    assert isinstance(result, Failure)
