"""The files of a corpus: manifests and transcripts of its splits, and whether the splits have the published sizes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from fairseq_birq.corpora.helpers.collection import Collection, Utterance, hours, unit_of
from fairseq_birq.data.files import write_lines
from fairseq_birq.data.manifest import write_manifest, write_rates
from fairseq_birq.data.transcripts import write_letter_dictionary, write_transcripts
from fairseq_birq.errors import UserError


@dataclass(frozen=True)
class Expected:
    """Size of a split of the real corpus, as its source says; None where the source says nothing."""

    said_by: str
    utterances: Optional[int] = None
    hours: Optional[float] = None


def write(
    collection: Collection,
    out: str,
    root: str,
    known_splits: Sequence[str] = ("train", "valid"),
    unions: Optional[Dict[str, Sequence[str]]] = None,
    expected: Optional[Dict[str, Expected]] = None,
    dictionary: Optional[str] = None,
) -> List[str]:
    """Write `<split>.tsv` of every split, with transcripts also `.wrd`, `.ltr` and `dict.ltr.txt`.

    Where files have different sample rates, `<split>.rate` has one per row; `left_out.txt` names all that was left out.

    root: absolute folder, to which the utterances' paths are relative
    known_splits: all that this corpus may write; an old one that is not written now could overlap and is refused
    unions: see `with_unions`
    expected: published sizes by the name of a split
    dictionary: the split whose letters dict.ltr.txt counts, as its training set; all if None

    Returns:
        Lines that say what is there, what was left out, what was written and where a size is not the published one.

    Raises:
        UserError: nothing is left, or an old manifest is in the way.
    """
    parts = with_unions(collection, unions or {})
    if not parts:
        raise UserError("\n".join([f"{root}: no utterance is left", *collection.lines()]))
    for name in [*known_splits, *(unions or {})]:
        stale = Path(out) / f"{name}.tsv"
        if name not in parts and stale.exists():
            raise UserError(f"{stale}: is of an earlier run and would overlap with the splits of this one; remove it")
    Path(out).mkdir(parents=True, exist_ok=True)
    _write_left_out(out, collection)
    lines = collection.lines() + [_write_split(out, root, split, utterances) for split, utterances in parts.items()]
    lettered = collection.utterances if dictionary is None else parts.get(dictionary, [])
    texts = [utterance.text for utterance in lettered if utterance.text is not None]
    if texts:
        write_letter_dictionary(out, texts)
    measured = [split for split in parts if split in (expected or {})]
    return lines + [compare(split, len(parts[split]), hours(parts[split]), expected[split]) for split in measured]


def with_unions(collection: Collection, unions: Dict[str, Sequence[str]]) -> Dict[str, List[Utterance]]:
    """Splits that are not empty, and sets of several of them together, sorted by path.

    unions: name -> its members, earlier unions among them. One with the name of a split replaces it.
    """
    parts = {split: utterances for split, utterances in collection.splits.items() if utterances}
    for name, members in unions.items():
        together = [utterance for member in members for utterance in parts.get(member, [])]
        parts.update({name: sorted(together, key=lambda item: item.path)} if together else {})
    return parts


def compare(split: str, num_utterances: int, num_hours: float, real: Expected) -> str:
    """A line that says whether a split has the size of the real one.

    Hours may differ by 0.5 %, and by 0.06 h, since sources round them to 0.1 h.
    """
    differences = []
    if real.utterances is not None and num_utterances != real.utterances:
        differences.append(f"{num_utterances} utterances instead of {real.utterances}")
    if real.hours is not None and abs(num_hours - real.hours) > max(0.06, 0.005 * real.hours):
        differences.append(f"{num_hours:.1f} h instead of {real.hours} h")
    if differences:
        return f"warning     {split}: {', '.join(differences)} ({real.said_by})"
    return f"complete    {split}: has the published size ({real.said_by})"


def _write_left_out(out, collection) -> None:
    """`left_out.txt`: reason<TAB>name of all that was left out; none where nothing was."""
    path = Path(out) / "left_out.txt"
    path.unlink(missing_ok=True)
    rows = [(reason, name.replace("\n", " ")) for reason, names in collection.left_out.items() for name in names]
    if rows:
        write_lines(path, [f"{reason}\t{name}" for reason, name in rows])


def _write_split(out, root, split, utterances):
    if utterances[0].text is not None:
        write_transcripts(out, split, [utterance.text for utterance in utterances])
    path = Path(out) / f"{split}.tsv"
    write_manifest(path, root, [(utterance.path, utterance.num_samples) for utterance in utterances])
    write_rates(path, [utterance.sample_rate for utterance in utterances])
    return f"written     {path}: {len(utterances)} {unit_of(utterances)}, {hours(utterances) * 60:.1f} min"
