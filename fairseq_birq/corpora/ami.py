"""AMI meeting corpus: close-talking headsets (ihm) and the first microphone of the first array (sdm).

Layout: FOLDER is the download of `amicorpus` with

    <meeting>/audio/<meeting>.Headset-<channel>.wav and <meeting>/audio/<meeting>.Array1-01.wav

and the manual annotations (ami_public_manual_1.6.1 or 1.6.2, unpacked in FOLDER or named by --annotations) with

    corpusResources/meetings.xml, segments/<meeting>.<agent>.segments.xml, words/<meeting>.<agent>.words.xml

Written: `train`, `valid` (the dev set), `test_ihm` and `test_sdm` (the eval set). With --mic both `train` and
`valid` hold both microphones. An utterance is a stretch of a long file, cut and spelled as in Kaldi's recipe (see ami_text).

Meetings: the lists of manifests/ami, which are the Full-corpus-ASR partition of
http://groups.inf.ed.ac.uk/ami/corpus/datasets.shtml, as in Kaldi's egs/ami/s5/local/split_{train,dev,eval}.orig.
Sizes: utterances of ihm from the dataset card edinburghcstr/ami (made by Kaldi's recipe from annotations 1.6.1), numbers of
files from Kaldi's egs/ami/s5b/local. Not checked on the real corpus.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from fairseq_birq.corpora.helpers.ami_text import read_annotations
from fairseq_birq.corpora.helpers.collection import Collection
from fairseq_birq.corpora.helpers.lists import read_list
from fairseq_birq.corpora.helpers.scanning import WORKERS, check_folder, find_audio, usable
from fairseq_birq.corpora.helpers.segments import add_segment
from fairseq_birq.corpora.helpers.writing import Expected, write
from fairseq_birq.errors import UserError

MICROPHONES = {"ihm": re.compile(r"(\w+)\.Headset-(\d)\.wav"), "sdm": re.compile(r"(\w+)\.Array1-01\.wav")}
EXAMPLES = {"ihm": "ES2011a/audio/ES2011a.Headset-0.wav", "sdm": "ES2011a/audio/ES2011a.Array1-01.wav"}
FILES = {"ihm": 687, "sdm": 169}
ANNOTATIONS = ("ami_public_manual_1.6.2", "ami_public_manual_1.6.1", "annotations", ".")

_SOURCE = "edinburghcstr/ami"
SIZES = {"train": Expected(_SOURCE, 108502), "valid": Expected(_SOURCE, 13098), "test_ihm": Expected(_SOURCE, 12643)}
SPLITS = ("train", "valid", "test_ihm", "test_sdm")

LISTS = {"train": "ami/train.txt", "valid": "ami/dev.txt", "test": "ami/eval.txt"}


def add_arguments(parser) -> None:
    parser.add_argument("folder", help="amicorpus, with a folder per meeting")
    parser.add_argument("--mic", choices=[*MICROPHONES, "both"], default="ihm", help="microphones (ihm)")
    parser.add_argument("--annotations", help="folder of the manual annotations, if it is not in FOLDER")


def make(
    folder: str,
    out: str,
    mic: str = "ihm",
    annotations: Optional[str] = None,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    workers: int = WORKERS,
) -> List[str]:
    """Write manifests and transcripts of the three sets.

    Raises:
        UserError: annotations or audio are missing, or an annotation file is malformed.
    """
    root = check_folder(folder)
    collection, notes, names = Collection(min_seconds, max_seconds), [], find_audio(root)
    segments = defaultdict(list)  # of each meeting
    for segment in read_annotations(_annotations(root, annotations), collection):
        segments[segment.meeting].append(segment)
    for microphone in MICROPHONES if mic == "both" else [mic]:
        found = _recordings(names, MICROPHONES[microphone])
        if not found:
            raise UserError(f"{root}: no audio of --mic {microphone}, as {EXAMPLES[microphone]}")
        if len(found) != FILES[microphone]:
            notes.append(f"warning     {microphone}: {len(found)} files instead of {FILES[microphone]} (Kaldi, egs/ami/s5b)")
        _collect(collection, root, microphone, found, segments, workers)
    expected = {split: size for split, size in SIZES.items() if mic == "ihm" or (mic == "both" and split == "test_ihm")}
    return write(collection, out, str(root.resolve()), SPLITS, expected=expected) + notes


def _annotations(root: Path, given) -> Path:
    for folder in [Path(given)] if given else [root / name for name in ANNOTATIONS]:
        if (folder / "corpusResources" / "meetings.xml").is_file():
            return folder
    raise UserError(
        f"{given or root}: no corpusResources/meetings.xml; unpack ami_public_manual_1.6.2.zip and name its folder with "
        "--annotations"
    )


def _recordings(names: Sequence[str], pattern) -> Dict[str, tuple]:
    """path -> (meeting,) or (meeting, channel) of the files of a microphone."""
    matches = {name: pattern.fullmatch(Path(name).name) for name in names}
    return {name: match.groups() for name, match in matches.items() if match}


def split_of_meetings() -> Dict[str, str]:
    """meeting, as ES2002a -> train, valid or test"""
    return {meeting: split for split, name in LISTS.items() for meeting in read_list(name)}


def _collect(collection, root, microphone, recordings, segments, workers):
    """Every segment from its speaker's headset, or all speakers' from the one far microphone."""
    infos = usable(root, list(recordings), collection, workers)
    without_audio, splits = set(segments), split_of_meetings()
    for name, info in infos.items():
        meeting, *channel = recordings[name]
        without_audio.discard(meeting)
        split = splits.get(meeting)
        if split is None:
            collection.leave_out("meeting of no set", name)
            continue
        split = f"test_{microphone}" if split == "test" else split
        for segment in segments.get(meeting, []):
            if not channel or segment.channel == channel[0]:
                add_segment(collection, split, name, info, segment.start_s, segment.end_s, segment.text)
    for meeting in sorted(without_audio):
        collection.leave_out(f"meeting without audio of {microphone}", meeting)
