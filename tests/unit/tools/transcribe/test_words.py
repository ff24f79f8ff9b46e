import math

import pytest
import torch

from fairseq_birq.decoding import DECODERS
from fairseq_birq.tools.transcribe.formats import CUE_LETTERS, CUE_SECONDS, FORMATS, joined, subtitles
from fairseq_birq.tools.transcribe.words import Transcript, Word, words_of

SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "|", "a", "b"]
BLANK, BOUNDARY, A, B = 0, 4, 5, 6
GREEDY = DECODERS["greedy"](BLANK, forbidden=(1, 2, 3))
PATH = [BLANK, A, A, BLANK, B, BOUNDARY, BLANK, BLANK, B, A]
PROBABILITY = [0.9, 0.8, 0.5, 0.9, 0.4, 0.9, 0.9, 0.9, 1.0, 0.25]


def scores(path, probability):
    """(1, T, V) log-probabilities in which every frame of the path has its probability, and the others share the rest."""
    log_probs = torch.empty(1, len(path), len(SYMBOLS))
    for frame, (symbol, share) in enumerate(zip(path, probability)):
        log_probs[0, frame] = math.log((1 - share + 1e-9) / (len(SYMBOLS) - 1))
        log_probs[0, frame, symbol] = math.log(share)
    return log_probs


def test_words_times_and_confidence_of_hand_made_scores():
    ((found,),) = GREEDY(scores(PATH, PROBABILITY), torch.tensor([len(PATH)]))
    first, second = words_of(found, SYMBOLS, frame_seconds=0.04, offset_s=10.0, seconds=0.39)
    assert (first.text, second.text) == ("ab", "ba")
    assert (first.start_s, first.end_s) == pytest.approx((10.04, 10.20))
    assert (second.start_s, second.end_s) == pytest.approx((10.32, 10.39))  # the last frame is longer than the recording
    assert first.confidence == pytest.approx((0.8 * 0.5 * 0.4) ** (1 / 3), rel=1e-4)
    assert second.confidence == pytest.approx((1.0 * 0.25) ** (1 / 2), rel=1e-4)
    whole = Transcript("x", 10.39, [first, second])
    assert whole.text == "ab ba"
    assert whole.confidence == pytest.approx((0.8 * 0.5 * 0.4 * 1.0 * 0.25) ** (1 / 5), rel=1e-4)


def test_words_of_a_lexicon_are_written_as_the_lexicon_writes_them(tmp_path):
    pytest.importorskip("flashlight.lib.text.decoder", reason="the extra [decode] is not installed")
    (tmp_path / "lexicon.txt").write_text("Ab.\ta b |\nBa!\tb a |\n")
    decoder = DECODERS["lexicon"](SYMBOLS, blank=BLANK, lexicon=str(tmp_path / "lexicon.txt"))
    ((found, *_),) = decoder(scores([*PATH, BOUNDARY], [*PROBABILITY, 0.9]), torch.tensor([len(PATH) + 1]))
    assert [word.text for word in words_of(found, SYMBOLS, 0.04, 0.0, 1.0)] == ["Ab.", "Ba!"]


@pytest.mark.parametrize("path", [[BLANK] * 3, [BOUNDARY] * 3, []])
def test_silence_has_no_words(path):
    ((found,),) = GREEDY(scores(path, [0.9] * len(path)), torch.tensor([len(path)]))
    assert words_of(found, SYMBOLS, 0.04, 0.0, 1.0) == []
    assert Transcript("x", 1.0).text == "" and Transcript("x", 1.0).confidence == 0.0


WORDS = [Word("one", 0.52, 0.8, 0.95, 3), Word("two", 1.0, 1.25, 0.5, 2), Word("three", 3661.5, 3662.0, 0.25, 4)]
TRANSCRIPT = Transcript("a b.wav", 3700.0, WORDS)


def test_text_and_ctm():
    assert FORMATS["txt"](TRANSCRIPT) == "a b.wav\tone two three\n"
    assert FORMATS["ctm"](TRANSCRIPT).splitlines() == [
        "a_b.wav 1 0.520 0.280 one 0.9500",
        "a_b.wav 1 1.000 0.250 two 0.5000",
        "a_b.wav 1 3661.500 0.500 three 0.2500",
    ]


def test_subtitles_end_with_pauses():
    assert FORMATS["srt"](TRANSCRIPT) == (
        "1\n00:00:00,520 --> 00:00:01,250\none two\n\n2\n01:01:01,500 --> 01:01:02,000\nthree\n\n"
    )


def test_subtitles_are_short_enough_to_read():
    words = [Word("word" * (1 + index % 4), 0.3 * index, 0.3 * index + 0.25, 0.5, 1) for index in range(100)]
    cues = subtitles(words)
    assert [word for cue in cues for word in cue] == words
    assert max(len(" ".join(word.text for word in cue)) for cue in cues) <= CUE_LETTERS
    assert max(cue[-1].end_s - cue[0].start_s for cue in cues) <= CUE_SECONDS


def test_json_of_several_recordings_is_a_list():
    import json

    content = json.loads(joined([FORMATS["json"](TRANSCRIPT), FORMATS["json"](Transcript("caf\udce9", 1.0))], "json"))
    assert [one["text"] for one in content] == ["one two three", ""]
    assert content[0]["words"][1] == {"word": "two", "start": 1.0, "end": 1.25, "confidence": 0.5}
    assert content[1]["audio"] == "caf\\udce9"
