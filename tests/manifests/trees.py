"""Small corpora in the layout of the real ones: `TREES[name](folder)` makes one and returns the options of `make`."""

import json
from pathlib import Path

import numpy as np

from tests.synth import tone, write_audio

RATE = 16000


def librispeech(folder):
    """Two utterances in each of five subsets."""
    for speaker, subset in enumerate(["train-clean-100", "dev-clean", "dev-other", "test-clean", "test-other"], start=11):
        chapter = folder / "LibriSpeech" / subset / str(speaker) / "7"
        for number in range(2):
            write_audio(chapter / f"{speaker}-7-{number:04d}.flac", tone(0.5 + 0.1 * number, seed=speaker))
        lines = [f"{speaker}-7-0000 A CAT {speaker}", f"{speaker}-7-0001 IT'S  TWO DOGS"]
        (chapter / f"{speaker}-7.trans.txt").write_text("\n".join(lines) + "\n")
    return {"folder": str(folder), "train": "100"}


AMI_WORDS = (  # one speaker's segment: token, begin, end, attributes
    ("Okay", 1.0, 1.3, ""), (",", 1.3, 1.3, ' punc="true"'), ("mm-hmm", 1.3, 1.6, ""), (".", 1.6, 1.6, ' punc="true"'),
    ("The", 1.6, 1.8, ""), ("T_V_", 1.8, 2.1, ""), ("set", 2.1, 2.4, ' trunc="true"'), ("?", 2.4, 2.4, ' punc="true"'),
)  # fmt: skip
AMI_TEXTS = [(1.0, 1.6, "OKAY MM-HMM"), (1.6, 2.4, "THE T. V. SET")]


def ami_xml(name, content):
    return (
        f'<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>\n<nite:root nite:id="{name}" '
        f'xmlns:nite="http://nite.sourceforge.net/">\n{content}\n</nite:root>\n'
    )


def ami_words(folder, meeting, agent, tokens, runs):
    """Words and segments of one speaker; runs: first and last token of each segment."""
    start = f"{meeting}.{agent}.words"
    words = [
        f'<w nite:id="{start}{place}" starttime="{begin}" endtime="{end}"{more}>{text}</w>'
        for place, (text, begin, end, more) in enumerate(tokens)
    ]
    hrefs = [f"{start}.xml#id({start}{first})..id({start}{last})" for first, last in runs]
    segments = [f'<segment nite:id="s{place}"><nite:child href="{href}"/></segment>' for place, href in enumerate(hrefs)]
    for kind, content in [("words", words), ("segments", segments)]:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / f"{meeting}.{agent}.{kind}.xml").write_text(ami_xml(kind, "\n".join(content)))


def ami(folder, meetings=("ES2002a", "ES2011b", "ES2004c")):
    """Meetings of two speakers: the second says the same 0.4 s later."""
    notes, speakers = folder / "ami_public_manual_1.6.2", []
    later = [(text, begin + 0.4, end + 0.4, more) for text, begin, end, more in AMI_WORDS]
    for meeting in meetings:
        for seed, name in enumerate(["Headset-0", "Headset-1", "Array1-01"]):
            write_audio(folder / meeting / "audio" / f"{meeting}.{name}.wav", tone(4.0, seed=seed))
        ami_words(notes, meeting, "A", AMI_WORDS, [(0, len(AMI_WORDS) - 1)])
        ami_words(notes, meeting, "B", later, [(0, 3), (4, 7)])
        agents = [f'<speaker nxt_agent="{agent}" channel="{number}" global_name="X"/>' for number, agent in enumerate("AB")]
        speakers.append(f'<meeting observation="{meeting}">{"".join(agents)}</meeting>')
    (notes / "corpusResources").mkdir(parents=True)
    (notes / "corpusResources" / "meetings.xml").write_text(ami_xml("meetings", "\n".join(speakers)))
    return {"folder": str(folder), "mic": "both"}


def yodas(folder):
    """Three videos of 3 s in two languages, two captions each."""
    for language, shard, videos in [("en000", "00000000", ["-a_1", "b-2"]), ("de100", "00000000", ["c3"])]:
        entries = []
        for seed, video in enumerate(videos):
            write_audio(folder / "data" / language / "audio" / shard / "x" / f"{video}.wav", tone(3.0, 24000, seed), 24000)
            texts = {f"{video}-00000-00000050-00000120": f"hello {video}", f"{video}-00001-00000120-00000300": "two  words"}
            entries.append({"audio_id": video, "text": texts})
        text = folder / "data" / language / "text" / f"{shard}.json"
        text.parent.mkdir(parents=True)
        text.write_text(json.dumps(entries))
    return {"folder": str(folder), "valid_fraction": 0.3}


def bursts(seconds=12.0, period=1.5, pause=0.3):
    """A tone that is nearly silent in the first `pause` seconds of every `period`."""
    wave = tone(seconds, seed=3)
    quiet = (np.arange(wave.size) / RATE) % period < pause
    return np.where(quiet, 0.001 * wave, wave).astype(np.float32)


def libri_light(folder):
    """Three speakers, a book each, of 12 s."""
    for speaker in ("100", "200", "300"):
        write_audio(folder / "small" / speaker / "a_book" / f"part_{speaker}.flac", bursts())
    return {"folder": str(folder), "piece_seconds": 5.0, "valid_fraction": 0.3}


def kaldi(folder):
    """data/train with segments of two recordings, data/dev without segments."""
    for split, names in [("train", ["r1", "r2"]), ("dev", ["d1"])]:
        data, lines = folder / "data" / split, []
        for seed, name in enumerate(names):
            path = write_audio(folder / "audio" / split / f"{name}.wav", tone(2.0, 8000, seed), 8000)
            lines.append(f"{name} {path}")
        data.mkdir(parents=True)
        (data / "wav.scp").write_text("\n".join(lines) + "\n")
    (folder / "data" / "train" / "segments").write_text("u1 r1 0.25 1.00\nu2 r1 1.00 -1\nu3 r2 0 2.3\n")
    (folder / "data" / "train" / "text").write_text("u1 one\nu2 two  three\nu3 four\n")
    (folder / "data" / "dev" / "text").write_text("d1 five\n")
    return {"folder": [str(folder / "data" / "train"), str(folder / "data" / "dev")]}


def cut(path, name, start, duration, text=None, seconds=3.0, rate=RATE, **changes):
    """One line of a lhotse cut set."""
    source = {"type": "file", "channels": [0], "source": str(path)}
    recording = {"id": Path(path).stem, "sources": [source], "sampling_rate": rate}
    recording.update(num_samples=int(seconds * rate), duration=seconds, channel_ids=[0])
    supervision = {"id": name, "recording_id": recording["id"], "start": 0.0, "duration": duration, "channel": 0, "text": text}
    value = {"id": name, "start": start, "duration": duration, "channel": 0, "recording": recording, "type": "MonoCut"}
    return {**value, "supervisions": [supervision] if text else [], **changes}


def lhotse(folder):
    """Two cut sets of a recording each."""
    for split in ("train", "dev"):
        path = write_audio(folder / "audio" / f"{split}.wav", tone(3.0, seed=len(split)))
        cuts = [cut(path, f"{split}-1", 0.5, 1.0, "one"), cut(path, f"{split}-2", 1.5, 1.25, "two three")]
        (folder / f"cuts_{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in cuts))
    return {"cuts": [str(folder / "cuts_train.jsonl"), str(folder / "cuts_dev.jsonl")]}


def audio_folder(folder):
    for name in "abcd":
        write_audio(folder / name / "x.wav", tone(0.5, seed=ord(name)))
    return {"folder": str(folder), "valid_fraction": 0.3}


def demo(folder):
    return {"minutes": 0.05}


TREES = {
    "ami": ami,
    "audio_folder": audio_folder,
    "demo": demo,
    "kaldi": kaldi,
    "lhotse": lhotse,
    "libri_light": libri_light,
    "librispeech": librispeech,
    "yodas": yodas,
}
