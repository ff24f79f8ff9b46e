"""YODAS 2 (Hugging Face espnet/yodas2): long recordings of YouTube at 24 kHz, and the times of their captions.

Layout: FOLDER is the download, its folder `data`, or a folder with some of the language folders

    data/<language>/text/<shard>.json, a list of {"audio_id": <video>, "text": {"<video>-<number>-<start>-<end>": TEXT}}
        with start and end in 1/100 s
    data/<language>/audio/<shard>.tar.gz, unpacked: data/<language>/audio/<shard>/.../<video>.wav

Languages are called en000 to en007 (captions by users), en100 (automatic captions) and so on.

Written: `train`, and a share of the videos as `valid`. An utterance is a caption's stretch of its video.

Sizes: 369,510 h of captions in all languages together, from the card of espnet/yodas, of which this is the uncut
version; shards of each language from meta.py of espnet/yodas2. Not checked on the corpus.
"""

import re
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from fairseq_birq.corpora.helpers.collection import Collection, check_fraction
from fairseq_birq.corpora.helpers.scanning import WORKERS, check_folder, find_audio, usable
from fairseq_birq.corpora.helpers.segments import add_segment
from fairseq_birq.corpora.helpers.text_files import read_json
from fairseq_birq.corpora.helpers.writing import Expected, compare, write
from fairseq_birq.corpora.helpers.yodas_shards import SHARDS
from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.errors import UserError

HOURS = Expected("all of espnet/yodas", hours=369510)
TIMES = re.compile(r".+-[0-9]+-([0-9]{1,12})-([0-9]{1,12})", re.DOTALL)  # 1/100 s


def add_arguments(parser) -> None:
    parser.add_argument("folder", help="the download, its folder data, or a folder with language folders")
    parser.add_argument("--languages", metavar="L,L", help="as en000,de: en000 and all folders of German (all)")
    parser.add_argument("--no-text", action="store_true", help="write no transcripts")
    parser.add_argument("--valid-fraction", type=float, default=0.01, help="share of the videos for valid.tsv (0.01)")
    parser.add_argument("--seed", type=int, default=1, help="of the split (1)")


def make(
    folder: str,
    out: str,
    languages: Optional[str] = None,
    no_text: bool = False,
    valid_fraction: float = 0.01,
    seed: int = 1,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    workers: int = WORKERS,
) -> List[str]:
    """Write manifests and transcripts of the captions of some languages.

    Raises:
        UserError: a language is missing, a file of captions is malformed, or no audio is unpacked.
    """
    check_fraction(valid_fraction)
    root = check_folder(folder)
    root = root / "data" if (root / "data").is_dir() else root
    collection, notes = Collection(min_seconds, max_seconds), []
    for language in _chosen(root, languages):
        shards = sorted((root / language / "text").glob("*.json"))
        _collect(collection, root, language, shards, no_text, workers)
        if len(shards) != SHARDS.get(language, len(shards)):
            notes.append(f"warning     {language}: {len(shards)} shards instead of {SHARDS[language]} (espnet/yodas2)")
    collection.hold_out(valid_fraction, seed, group=lambda path: parse_audio_path(path).file)
    if not languages:
        notes.append(compare("all languages", len(collection.utterances), collection.hours, HOURS))
    return write(collection, out, str(root.resolve())) + notes


def _chosen(root, languages) -> List[str]:
    """Names of the language folders that are wanted."""
    there = sorted(path.parent.name for path in root.glob("*/text") if path.is_dir())
    if not there:
        raise UserError(f"{root}: no folder of a language in it, as data/en000/text/")
    chosen = set()
    for wanted in languages.split(",") if languages else there:
        found = {name for name in there if wanted in (name, name.rstrip("0123456789"))}
        if not found:
            raise UserError(f"--languages {wanted}: is not in {root}, which has {', '.join(there)}")
        chosen |= found
    return sorted(chosen)


def _collect(collection, root, language, shards, no_text, workers):
    audio = {Path(name).stem: f"{language}/audio/{name}" for name in find_audio(root / language / "audio")}
    infos = usable(root, list(audio.values()), collection, workers)
    for path in shards:
        if not (root / language / "audio" / path.stem).is_dir():
            collection.leave_out("shard that is not unpacked", f"{language}/audio/{path.stem}.tar.gz into {path.stem}/")
            continue
        for video, captions in read_captions(path):
            name = audio.get(video)
            if name is None:
                collection.leave_out("captions without audio", f"{language}: {video}")
            elif name in infos:
                for start_s, end_s, text in captions:
                    add_segment(collection, "train", name, infos[name], start_s, end_s, None if no_text else text)


def read_captions(path) -> Iterator[Tuple[str, List[Tuple[float, float, str]]]]:
    """(video, its captions as (begin in s, end in s, text)) of a shard.

    Raises:
        UserError: the file is malformed.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise UserError(f"{path}: must be a list of videos, but is {type(content).__name__}")
    for entry in content:
        video, texts = (entry.get("audio_id"), entry.get("text")) if isinstance(entry, dict) else (None, None)
        if not isinstance(video, str) or not isinstance(texts, dict):
            raise UserError(f"{path}: a video must have `audio_id` and `text`, but is {str(entry)[:80]}")
        yield video, [_caption(path, key, texts) for key in sorted(texts)]


def _caption(path, key: str, texts: Dict[str, str]):
    match = TIMES.fullmatch(key)
    if not match or not isinstance(texts[key], str):
        raise UserError(f"{path}: a caption must be `<video>-<number>-<start>-<end>: text`, but is {key!r}")
    return int(match[1]) / 100, int(match[2]) / 100, texts[key]
