"""Kaldi data directories (https://kaldi-asr.org/doc/data_prep.html), one per split.

Layout: each FOLDER, as data/train and data/dev, holds

    wav.scp    <recording> PATH, or <recording> COMMAND |
    segments   <utterance> <recording> <start s> <end s>; without it every recording is an utterance
    text       <utterance> WORDS; without it no transcripts are written

Written: a split of the name of each folder; with --valid-fraction also `valid`, a share of the first one's recordings.
Paths that are not absolute count from the working directory, as Kaldi's do. A command is run only with --allow-commands;
what it prints becomes a file in OUT/audio, once. As in Kaldi's extract-segments an end of -1 is the recording's, and one
at most 0.5 s past the end is moved to it. Several channels are averaged; a segment with a channel of its own is left out.
There are no published sizes.
"""

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from fairseq_birq.corpora.helpers.collection import Collection, Utterance, check_fraction
from fairseq_birq.corpora.helpers.commands import materialise
from fairseq_birq.corpora.helpers.roots import absolute, check_split_names, common_root
from fairseq_birq.corpora.helpers.scanning import WORKERS, check_folder, usable
from fairseq_birq.corpora.helpers.segments import add_segment
from fairseq_birq.corpora.helpers.text_files import read_lines, read_table
from fairseq_birq.corpora.helpers.writing import write
from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.errors import UserError


class Segment(NamedTuple):
    utterance: str
    recording: str
    start_s: float
    end_s: Optional[float]  # None: the recording's end
    has_channel: bool


def add_arguments(parser) -> None:
    parser.add_argument("folder", nargs="+", help="data directories, one per split")
    parser.add_argument("--allow-commands", action="store_true", help="run the commands of wav.scp: only if you trust them")
    parser.add_argument("--no-text", action="store_true", help="write no transcripts")
    parser.add_argument("--valid-fraction", type=float, default=0.0, help="share of the first one's recordings (0)")
    parser.add_argument("--seed", type=int, default=1, help="of the split (1)")


def make(
    folder: Sequence[str],
    out: str,
    allow_commands: bool = False,
    no_text: bool = False,
    valid_fraction: float = 0.0,
    seed: int = 1,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    workers: int = WORKERS,
) -> List[str]:
    """Write a manifest per data directory.

    Raises:
        UserError: a table is missing or malformed, or wav.scp has commands that are not allowed.
    """
    check_fraction(valid_fraction)
    folders = check_split_names({Path(path).resolve().name: check_folder(path) for path in folder}, len(folder))
    collection = Collection(min_seconds, max_seconds)
    scps = {split: read_table(path / "wav.scp") for split, path in folders.items()}
    with_text = not no_text and all((path / "text").is_file() for path in folders.values())
    files = {split: _files(scp, folders[split], out, allow_commands, collection) for split, scp in scps.items()}
    root = common_root([path for paths in files.values() for path in paths.values()], "wav.scp names no file that can be read")
    for split, path in folders.items():
        names = {recording: str(Path(file).relative_to(root)) for recording, file in files[split].items()}
        _collect(collection, root, split, path, names, with_text, workers)
    collection.hold_out(valid_fraction, seed, lambda path: parse_audio_path(path).file, split=next(iter(folders)))
    return write(collection, out, root, known_splits=(*folders, "valid"))


def _files(scp: Dict[str, str], folder, out, allow_commands, collection) -> Dict[str, str]:
    """recording -> absolute path of its audio file."""
    files, commands = {}, {}
    for recording, place in scp.items():
        if place.endswith("|"):
            commands[recording] = place[:-1].strip()
        elif place == "-" or not place:
            raise UserError(f"{folder / 'wav.scp'}: {recording} must have a path or a command, but has {place!r}")
        else:
            files[recording] = absolute(place)
    if commands and not allow_commands:
        recording, command = next(iter(commands.items()))
        raise UserError(
            f"{folder / 'wav.scp'}: {len(commands)} of {len(scp)} entries are commands, as {recording}: {command!r}; "
            "if you trust them, run them with --allow-commands"
        )
    files.update(materialise(commands, Path(out) / "audio", collection))
    return files


def _collect(collection, root, split, folder, names, with_text, workers):
    texts = read_table(folder / "text") if with_text else {}
    infos = usable(root, sorted(set(names.values())), collection, workers)
    segments = _segments(folder / "segments") if (folder / "segments").is_file() else None
    for segment in segments or [Segment(name, name, 0.0, None, False) for name in names]:
        name = names.get(segment.recording)
        text = texts.get(segment.utterance) if with_text else None
        if name is None:
            collection.leave_out("segment of a recording that is not there", f"{split}: {segment.utterance}")
        elif with_text and text is None:
            collection.leave_out("utterance without transcript", f"{split}: {segment.utterance}")
        elif segment.has_channel:
            collection.leave_out("segment of one channel", f"{split}: {segment.utterance}")
        elif name in infos and segments is None:
            info = infos[name]
            collection.add(split, Utterance(name, info.num_samples, info.sample_rate, text))
        elif name in infos:
            add_segment(collection, split, name, infos[name], segment.start_s, segment.end_s, text)


def _segments(path) -> List[Segment]:
    segments = []
    for line, where in read_lines(path):
        fields = line.split()
        try:
            start_s, end_s = float(fields[2]), float(fields[3])
            segments.append(Segment(*fields[:2], start_s, None if end_s == -1 else end_s, len(fields) > 4))
        except (IndexError, ValueError):
            raise UserError(f"{where}: must be `utterance recording start end`, in seconds, but is {line!r}") from None
    return segments
