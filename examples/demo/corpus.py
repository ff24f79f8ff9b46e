"""The embedded corpus: sentences of our own, spoken by espeak-ng in several voices, speeds and pitches.

    python examples/demo/corpus.py OUT --minutes 20

Written: `pretrain`, its labelled part `train`, `valid` and `test`, and the audio itself, 2 MB a minute; no sentence is in two of
pretrain, valid and test. --minutes are of `pretrain`; `train` has 0.1 of them, `valid` and `test` 0.075 each.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

import numpy as np
import soundfile
import soxr
from espeak import Phone, Synthesiser

from fairseq_birq.data.files import write_lines
from fairseq_birq.data.manifest import write_manifest
from fairseq_birq.data.transcripts import write_letter_dictionary, write_transcripts
from fairseq_birq.errors import UserError
from fairseq_birq.progress import progress

SAMPLE_RATE = 16000
VERSION = 2  # raise when the same settings give another corpus
STAMP = "corpus.json"  # written last: a folder that has it is complete
SHARES = {"train": 0.10, "rest": 0.90, "valid": 0.075, "test": 0.075}  # of the pre-training minutes
NOISE_STD = 0.001  # full scale is 1; a room's floor, since exact zeros are no speech

VOICES = (
    "en-us", "en-us+f2", "en-us+f4", "en-us+m3", "en-us+m7",
    "en-gb-scotland", "en-gb-scotland+f1", "en-gb-x-rp+f3", "en-gb-x-rp+m1", "en-029+m2",
)  # fmt: skip
WHO = (
    "the farmer", "my brother", "her sister", "the teacher", "a young girl", "the old captain", "our doctor",
    "the baker", "his uncle", "a tall man", "the little boy", "their mother",
)  # fmt: skip
DOES = (
    "buys", "carries", "paints", "finds", "cleans", "hides", "sells", "repairs", "takes", "wants", "brings", "watches",
)  # fmt: skip
QUALITY = (
    "red", "small", "heavy", "broken", "green", "new", "round", "strange", "wooden", "empty", "cheap", "yellow",
)  # fmt: skip
THING = (
    "boat", "lamp", "table", "basket", "bottle", "clock", "door", "hammer", "kettle", "mirror", "shovel", "bridge",
)  # fmt: skip
WHERE = (
    "near the river", "behind the house", "in the garden", "at the market", "under the tree", "on the hill",
    "by the church", "across the road", "beside the lake", "",
)  # fmt: skip
WHEN = ("today", "every morning", "in winter", "after dinner", "before noon", "on sunday", "", "")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder for audio, manifests and texts")
    parser.add_argument("--minutes", type=float, default=20.0, help="of pre-training audio (20)")
    parser.add_argument("--seed", type=int, default=1, help="of sentences, voices and noise (1)")
    try:
        print("\n".join(make(**vars(parser.parse_args(argv)))))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


@dataclass(frozen=True)
class Utterance:
    path: str
    text: str
    speaker: str
    num_samples: int
    phones: List[Phone]


def make(out: str, minutes: float = 20.0, seed: int = 1) -> List[str]:
    """Make the corpus in the folder `out`, or leave it as it is when it is complete already.

    minutes: of pre-training audio; 0.1 of it is labelled, valid and test have 0.075 of it each

    Returns:
        Lines that say what is there.

    Raises:
        UserError: espeak-ng does not run here, or the settings are out of range.
    """
    if not 0 < minutes <= 300:
        raise UserError(f"--minutes must be > 0 and <= 300, but is {minutes}")
    folder = Path(out)
    settings = {"corpus": "demo", "version": VERSION, "minutes": minutes, "seed": seed}
    stamp = folder / STAMP
    if stamp.is_file() and json.loads(stamp.read_text()) == settings:
        return [f"complete    {folder}: the demo corpus with these settings is there already"]
    stamp.unlink(missing_ok=True)
    parts = _speak_all(folder, minutes, seed)
    pretrain = sorted(parts["train"] + parts["rest"], key=lambda utterance: utterance.path)
    splits = {"pretrain": pretrain, "train": parts["train"], "valid": parts["valid"], "test": parts["test"]}
    write_letter_dictionary(folder, [utterance.text for utterance in pretrain])
    lines = [_write_split(folder, split, utterances) for split, utterances in splits.items()]
    write_lines(stamp, [json.dumps(settings)])
    return lines


def sentences(seed: int) -> Iterator[str]:
    """Distinct sentences in an order that the seed sets; there are over a million of them."""
    generator = np.random.default_rng([seed, 0])
    seen = set()
    while True:
        words = [list_[generator.integers(len(list_))] for list_ in (WHO, DOES, QUALITY, THING, WHERE, WHEN)]
        who, does, quality, thing, where, when = words
        article = "an" if quality[0] in "aeiou" else "a"
        sentence = " ".join(f"{who} {does} {article} {quality} {thing} {where} {when}".split())
        if sentence not in seen:
            seen.add(sentence)
            yield sentence


def _speak_all(folder, minutes, seed):
    """{part: utterances} with the audio files written; each part gets sentences until its minutes are full."""
    synthesiser = Synthesiser()
    texts = sentences(seed)
    total_s = int(minutes * 60 * sum(SHARES.values()))
    parts, count = {}, 0
    with progress(total=total_s, title="speak", unit="s of speech") as bar:
        for part, share in SHARES.items():
            parts[part], spoken_s = [], 0.0
            while spoken_s < share * minutes * 60:
                utterance = _speak(synthesiser, folder, count, next(texts), seed)
                parts[part].append(utterance)
                seconds = utterance.num_samples / SAMPLE_RATE
                spoken_s += seconds
                bar.update(min(round(seconds), total_s - bar.n))
                count += 1
            parts[part].sort(key=lambda utterance: utterance.path)
    return parts


def _speak(synthesiser, folder, number, text, seed):
    """Write one utterance as `<speaker>/NNNNN.flac`; voice, speed, pitch, level and noise come from its number."""
    generator = np.random.default_rng([seed, 1, number])
    voice = VOICES[generator.integers(len(VOICES))]
    wave, phones = synthesiser.say(text, voice, int(generator.integers(130, 200)), int(generator.integers(35, 66)))
    wave = soxr.resample(wave.astype(np.float32) / 32768, synthesiser.sample_rate, SAMPLE_RATE)
    wave = wave * generator.uniform(0.3, 0.9) / max(np.abs(wave).max(), 1e-3)
    wave = wave + NOISE_STD * generator.standard_normal(len(wave)).astype(np.float32)
    path = folder / voice / f"{number:05d}.flac"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), wave, SAMPLE_RATE)
    return Utterance(path.relative_to(folder).as_posix(), text, voice, len(wave), phones)


def _write_split(folder, split, utterances):
    write_transcripts(folder, split, [utterance.text for utterance in utterances])
    write_lines(folder / f"{split}.spk", [utterance.speaker for utterance in utterances])
    write_lines(folder / f"{split}.phn", _phone_table(utterances))
    write_manifest(folder / f"{split}.tsv", ".", [(item.path, item.num_samples) for item in utterances])
    seconds = sum(utterance.num_samples for utterance in utterances) / SAMPLE_RATE
    return f"written     {folder / split}.tsv: {len(utterances)} utterances, {seconds / 60:.1f} min"


def _phone_table(utterances):
    """Lines of a `.phn` file: the columns of the header, one phone each."""
    yield "utt_index\tpath\tstart_s\tend_s\tphone"
    for index, utterance in enumerate(utterances):
        for phone in utterance.phones:
            yield f"{index}\t{utterance.path}\t{phone.start_s:.3f}\t{phone.end_s:.3f}\t{phone.name}"


if __name__ == "__main__":
    sys.exit(main())
