"""AMI's manual annotations (NXT XML) as short segments with normalised text, as Kaldi's egs/ami/s5b/local makes them.

ami_xml2text.sh: a segment is the words that it points to, from the first one's begin to the last one's end.
ami_split_segments.pl: it is split at every `.` and `?`; what has more than 30 words then, at the comma nearest to its
middle, again and again. Times are cut to 10 ms. Text: capitals, no punctuation, hyphens become spaces except in MM-HMM
and UH-HUH, `_` in spelled letters becomes `. ` (T_V_ is T. V.). Unlike Kaldi's script this keeps two words that a comma
without spaces joins, and splits long parts too where the script stops since it sorts times as text or meets a `!`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple
from xml.etree import ElementTree

from fairseq_birq.corpora.helpers.collection import Collection
from fairseq_birq.errors import UserError

MAX_WORDS = 30
NXT_ID = "{http://nite.sourceforge.net/}id"
NXT_CHILD = "{http://nite.sourceforge.net/}child"
_RANGE = re.compile(r"[^#]*#id\(([^()]+)\)(?:\.\.id\(([^()]+)\))?")


class Token(NamedTuple):
    """A word, a punctuation mark, or (text None) a sound that is neither; times are None where none are given."""

    text: str
    start_s: float
    end_s: float
    is_mark: bool


@dataclass(frozen=True)
class Segment:
    meeting: str
    channel: str  # number of the speaker's headset
    start_s: float
    end_s: float
    text: str


def read_annotations(folder: Path, collection: Collection) -> List[Segment]:
    """All segments of all meetings in the order of their files.

    collection: counts segments of unknown speakers and those that point to unknown words

    Raises:
        UserError: a file is missing or malformed.
    """
    channels = _channels(folder / "corpusResources" / "meetings.xml")
    segments = []
    for path in sorted((folder / "segments").glob("*.segments.xml")):
        meeting, agent = (path.name.split(".") + [""])[:2]
        if (meeting, agent) not in channels:
            collection.leave_out("annotation of a speaker that meetings.xml lacks", path.name)
            continue
        tokens = _tokens(folder / "words" / f"{meeting}.{agent}.words.xml")
        for run in _runs(path, tokens, collection):
            for start_s, end_s, text in split_run(run):
                segments.append(Segment(meeting, channels[meeting, agent], start_s, end_s, text))
    if not segments:
        raise UserError(f"{folder}: no segment with words in segments/*.segments.xml")
    return segments


def split_run(tokens: List[Token]) -> Iterator[Tuple[float, float, str]]:
    """(begin in s, end in s, normalised text) of the parts of a segment that hold words."""
    times = [time for token in tokens for time in (token.start_s, token.end_s) if time is not None]
    if not times:
        return
    part, start_s = [], min(times)
    for token in tokens:
        if token.is_mark and token.text in (".", "?"):
            end_s = start_s if token.start_s is None else token.start_s
            yield from _split_at_commas(part, start_s, end_s)
            part, start_s = [], end_s
        elif token.text is not None:
            part.append(token)
    yield from _split_at_commas(part, start_s, max(times))


def normalise(words: str) -> str:
    text = words.upper().replace(",", " ").replace("-", " ").replace("_", ". ")
    text = " ".join(text.split())
    return text.replace("MM HMM", "MM-HMM").replace("UH HUH", "UH-HUH")


def _split_at_commas(part, start_s, end_s):
    commas = [
        (abs((start_s + end_s) / 2 - token.start_s), place)
        for place, token in enumerate(part)
        if token.is_mark and token.text == "," and token.start_s is not None and start_s < token.start_s < end_s
    ]
    if len(part) > MAX_WORDS and commas:
        place = min(commas)[1]
        yield from _split_at_commas(part[:place], start_s, part[place].start_s)
        yield from _split_at_commas(part[place + 1 :], part[place].start_s, end_s)
        return
    text = normalise(" ".join(token.text for token in part if not token.is_mark))
    start_s, end_s = (int(100 * time + 1e-6) / 100 for time in (start_s, end_s))
    if text and start_s < end_s:
        yield start_s, end_s, text


def _channels(path) -> Dict[Tuple[str, str], str]:
    """(meeting, agent) -> number of the headset."""
    channels = {}
    for meeting in _parse(path):
        for speaker in meeting:
            key = (meeting.get("observation"), speaker.get("nxt_agent"))
            channels[key] = speaker.get("channel")
    return channels


def _tokens(path) -> Dict[str, Token]:
    """id -> word, mark or sound, in their order."""
    tokens = {}
    for element in _parse(path):
        is_word = element.tag == "w"
        is_mark = is_word and (element.get("punc") == "true" or (element.text or "") in (".", ",", "?", "!", ":"))
        text = (element.text or "").strip() if is_word else None
        times = (_seconds(element, name, path) for name in ("starttime", "endtime"))
        tokens[element.get(NXT_ID)] = Token(text, *times, is_mark)
    return tokens


def _runs(path, tokens, collection) -> Iterator[List[Token]]:
    """The tokens of each segment."""
    order = list(tokens)
    place = {name: index for index, name in enumerate(order)}
    for segment in _parse(path):
        run = []
        for child in segment.iter(NXT_CHILD):
            match = _RANGE.fullmatch(child.get("href", ""))
            first, last = (match[1], match[2] or match[1]) if match else (None, None)
            if first in place and last in place:
                run += [tokens[name] for name in order[place[first] : place[last] + 1]]
            else:
                collection.leave_out("reference to a word that is not there", f"{path.name}: {child.get('href')}")
        yield run


def _seconds(element, name, path):
    value = element.get(name)
    try:
        seconds = float(value or "0")
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"{path}: {name} of {element.get(NXT_ID)} must be a number of seconds >= 0, but is {value!r}")
    return seconds if value else None


def _parse(path):
    """Root element of an XML file."""
    try:
        return ElementTree.parse(str(path)).getroot()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of AMI's annotations") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: is not XML ({error})") from None
