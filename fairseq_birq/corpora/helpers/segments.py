"""Stretches of long files as utterances."""

from typing import Optional

from fairseq_birq.corpora.helpers.collection import Collection, Utterance
from fairseq_birq.data.audio import AudioInfo

OVERSHOOT_S = 0.5  # an end that is this much past the file's is moved to it, as Kaldi's extract-segments does


def add_segment(
    collection: Collection,
    split: str,
    name: str,
    info: AudioInfo,
    start_s: float,
    end_s: Optional[float],
    text: Optional[str] = None,
) -> None:
    """Take the stretch from `start_s` to `end_s` (None: the file's end), or leave it out where it is not in the file.

    name, info: of the long file
    """
    example = f"{name} from {start_s} to {end_s} s"
    if not 0 <= start_s < float("inf") or (end_s is not None and not start_s < end_s < float("inf")):
        collection.leave_out("segment that ends before it begins", example)
        return
    rate = info.sample_rate
    begin = int(start_s * rate + 0.5)
    end = info.num_samples if end_s is None else int(end_s * rate + 0.5)
    if end > info.num_samples + OVERSHOOT_S * rate or begin >= min(end, info.num_samples):
        collection.leave_out("segment outside its file", f"{example}, of {info.seconds:.2f} s")
        return
    collection.add(split, piece(name, info, begin, min(end, info.num_samples), text))


def piece(name: str, info: AudioInfo, begin: int, end: int, text: Optional[str] = None) -> Utterance:
    """Samples `begin` to `end` of a file; the plain file where that is all of it."""
    count = end - begin
    path = name if count == info.num_samples else f"{name}:{begin}:{count}"
    return Utterance(path, count, info.sample_rate, text)
