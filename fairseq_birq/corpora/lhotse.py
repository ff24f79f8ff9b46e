"""lhotse cut sets (https://lhotse.readthedocs.io, "Cuts"): .jsonl or .jsonl.gz, one per split.

Layout: a cut in JSON per line, of type MonoCut or MultiCut, with `start`, `duration`, a `recording` that has one source of
type "file", and `supervisions`, of which the texts are joined in the order of their times. Paths that are not absolute
count from the working directory, as lhotse's do.

Written: a split of the name of each file (cuts_train.jsonl.gz: cuts_train); with --valid-fraction also `valid`, a share of
the first one's recordings. Left out and counted: mixed and padded cuts, cuts without a recording, of a command or of
several sources, with changed speed, volume and the like, of one channel of several, and cuts that do not fit their file.
There are no published sizes.
"""

import math
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from fairseq_birq.corpora.helpers.collection import Collection, check_fraction
from fairseq_birq.corpora.helpers.roots import absolute, check_split_names, common_root
from fairseq_birq.corpora.helpers.scanning import WORKERS, usable
from fairseq_birq.corpora.helpers.segments import add_segment
from fairseq_birq.corpora.helpers.text_files import parse_json, read_lines
from fairseq_birq.corpora.helpers.writing import write
from fairseq_birq.data.audio_paths import parse_audio_path
from fairseq_birq.errors import UserError


class Cut(NamedTuple):
    name: str
    path: str  # absolute
    sample_rate: int
    start_s: float
    end_s: float
    text: Optional[str]


def add_arguments(parser) -> None:
    parser.add_argument("cuts", nargs="+", help="files of cuts, one per split")
    parser.add_argument("--no-text", action="store_true", help="write no transcripts")
    parser.add_argument("--valid-fraction", type=float, default=0.0, help="share of the first one's recordings (0)")
    parser.add_argument("--seed", type=int, default=1, help="of the split (1)")


def make(
    cuts: Sequence[str],
    out: str,
    no_text: bool = False,
    valid_fraction: float = 0.0,
    seed: int = 1,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    workers: int = WORKERS,
) -> List[str]:
    """Write a manifest per cut set. If any cut has a text, those without one are left out.

    Raises:
        UserError: a file is missing or malformed.
    """
    check_fraction(valid_fraction)
    files = check_split_names({Path(path).name.split(".jsonl")[0]: Path(path) for path in cuts}, len(cuts))
    collection = Collection(min_seconds, max_seconds)
    splits = {split: read_cuts(path, collection) for split, path in files.items()}
    everything = [cut for members in splits.values() for cut in members]
    nothing = "\n".join([f"{', '.join(map(str, cuts))}: no cut can be used", *collection.lines()])
    root = common_root([cut.path for cut in everything], nothing)
    names = {cut.path: str(Path(cut.path).relative_to(root)) for cut in everything}
    infos = usable(root, sorted(set(names.values())), collection, workers)
    with_text = not no_text and any(cut.text is not None for cut in everything)
    for split, members in splits.items():
        for cut in members:
            _add(collection, split, cut, names[cut.path], infos, with_text)
    collection.hold_out(valid_fraction, seed, lambda path: parse_audio_path(path).file, split=next(iter(splits)))
    return write(collection, out, root, known_splits=(*splits, "valid"))


def read_cuts(path, collection: Collection) -> List[Cut]:
    """The cuts of a file that can be used.

    collection: counts those that cannot

    Raises:
        UserError: the file is missing or a line is no cut.
    """
    cuts = []
    for line, where in read_lines(path):
        cut = parse_json(line, where)
        if not isinstance(cut, dict) or "type" not in cut:
            raise UserError(f"{where}: is no cut; make cuts of recordings and supervisions with `lhotse cut simple`")
        reason = _fault(cut)
        if reason is not None:
            collection.leave_out(reason, f"{where}, {cut.get('id')}")
            continue
        try:
            cuts.append(_parse(cut))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{where}: the cut {cut.get('id')!r} is malformed ({type(error).__name__}: {error})") from None
    return cuts


def _fault(cut) -> Optional[str]:
    """Why a cut cannot be a stretch of a file, or None."""
    if cut["type"] not in ("MonoCut", "MultiCut"):
        return f"cut of type {str(cut['type'])[:40]}"
    recording = cut.get("recording")
    if not isinstance(recording, dict):
        return "cut without a recording"
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        return "cut of several sources"
    if sources[0].get("type") != "file":
        return f"cut of a source of type {str(sources[0].get('type'))[:40]}"
    if recording.get("transforms"):
        return "cut of audio that lhotse changes"
    wanted = cut.get("channel")
    if sources[0].get("channels") not in (wanted, [wanted]):
        return "cut of one channel of several"
    return None


def _parse(cut) -> Cut:
    """Raises: AttributeError, KeyError, TypeError, ValueError: something is missing or of another type."""
    start_s, duration_s = float(cut["start"]), float(cut["duration"])
    if not (math.isfinite(start_s) and math.isfinite(duration_s)):
        raise ValueError("start and duration must be finite")
    spoken = sorted(cut.get("supervisions") or [], key=lambda supervision: float(supervision.get("start", 0)))
    texts = [supervision["text"] for supervision in spoken if supervision.get("text") is not None]
    recording = cut["recording"]
    path = absolute(str(recording["sources"][0]["source"]))
    text = " ".join(texts) if texts else None
    return Cut(str(cut["id"]), path, int(recording["sampling_rate"]), start_s, start_s + duration_s, text)


def _add(collection, split, cut, name, infos, with_text):
    info = infos.get(name)
    if info is not None and info.sample_rate != cut.sample_rate:
        collection.leave_out("cut of another sample rate than its file", f"{cut.name}: {cut.sample_rate}, {info.sample_rate} Hz")
    elif with_text and cut.text is None:
        collection.leave_out("cut without text", cut.name)
    elif info is not None:
        add_segment(collection, split, name, info, cut.start_s, cut.end_s, cut.text if with_text else None)
