"""Subword units for CTC: SentencePiece's unigram model (Kudo 2018, arXiv 1804.10959) of the training transcripts.

What fine-tuning and decoding read is text: `dict.<name>.txt`, `<split>.<name>` and `lexicon.<name>.txt`, as for letters.
SentencePiece is needed to make these files, and for nothing else.
"""

import io
import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, Optional

from fairseq_birq.data.files import write_lines, written_whole
from fairseq_birq.data.text import text_lines
from fairseq_birq.data.transcripts import WORD_BEGIN, WORD_BOUNDARY, from_letters
from fairseq_birq.errors import UserError

INSTALL_HINT = "subword units need SentencePiece: pip install 'fairseq_birq[subwords]'"
_SHOWN = 20  # characters of a message
_NO_LIMIT = 10**9  # bytes of a line; SentencePiece leaves out lines of more than 4,192


def make_subwords(
    data, size: Optional[int] = None, model: Optional[str] = None, name: str = "spm", train: str = "train", words: Iterable = ()
) -> List[str]:
    """Write model, dictionary, transcripts of every split and a lexicon into the folder `data`.

    Args:
        data: folder with `<split>.wrd` or `<split>.ltr`.
        size: units of a new model, made from the split `train`.
        model: SentencePiece's file, made before, in place of a new one; of `size` and `model` one is given.
        name: suffix of the files; `task.labels` when training.
        words: files of text; the lexicon has their words beside those of `train`.

    Returns:
        Lines that say what was written, and which characters have no unit.

    Raises:
        UserError: SentencePiece is not installed; files are missing or do not belong together; or the transcripts do not allow
            `size` units.
    """
    data = Path(data)
    if (size is None) == (model is None):
        raise UserError("give either --size, for a new model, or --model")
    if not re.fullmatch(r"\w+", name) or name in ("tsv", "ltr", "wrd", "spk", "rate", "phn"):
        raise UserError(f"--name {name}: must be letters and digits, and no suffix of other files")
    texts = {split: _texts(path) for split, path in _transcripts(data, train).items()}
    more_words = [line for path in words for _, line in text_lines(path, "text")]
    processor = _load(model) if model else _new_model(data / f"{name}.model", size, texts[train], data / train)
    units = _units(processor)
    _refuse_other_units(data, name, units, model)
    lines, counts = [], Counter()
    for split, rows in texts.items():
        spelt = [_spelt(processor, units, text) for text in rows]
        write_lines(data / f"{split}.{name}", map(" ".join, spelt))
        lines.append(_described(split, rows, spelt, units))
        counts.update(unit for row in spelt for unit in row if split == train)
    lexicon = _lexicon(processor, units, [*texts[train], *more_words])
    write_lines(data / f"lexicon.{name}.txt", (f"{word}\t{' '.join(spelt)}" for word, spelt in lexicon.items()))
    write_lines(data / f"{name}.vocab", (f"{unit}\t{score:.9g}" for unit, score in [("<unk>", 0.0), *units.items()]))
    write_lines(data / f"dict.{name}.txt", (f"{unit} {counts[unit]}" for unit in units))
    with written_whole(data / f"{name}.model") as file:
        file.write(processor.serialized_model_proto())
    files = f"{name}.model, {name}.vocab, dict.{name}.txt, lexicon.{name}.txt ({len(lexicon)} words)"
    return [*lines, f"written     {data}: {files}, {', '.join(f'{split}.{name}' for split in texts)}"]


def _transcripts(data: Path, train: str) -> Dict[str, Path]:
    """{split: its file}, the words where they are there."""
    found = {path.stem: path for suffix in ("ltr", "wrd") for path in sorted(data.glob(f"*.{suffix}"))}
    if train not in found:
        raise UserError(f"{data / train}.wrd: no such transcripts; `birq-manifest` writes them, and --train names another split")
    return dict(sorted(found.items()))


def _texts(path: Path) -> List[str]:
    texts = []
    for number, line in text_lines(path, "transcripts"):
        text = from_letters(line.split()) if path.suffix == ".ltr" else " ".join(line.split())
        if WORD_BEGIN in text or WORD_BOUNDARY in text:
            raise UserError(f"{path}, line {number}: has {WORD_BEGIN!r} or {WORD_BOUNDARY!r}, which stand for ends of words")
        texts.append(text)
    return texts


def _sentencepiece():
    try:
        import sentencepiece
    except ImportError as error:
        raise UserError(f"{INSTALL_HINT} ({error})") from None
    return sentencepiece


def _new_model(path: Path, size: int, texts: List[str], train):
    """Raises UserError where a model is there, or the texts do not allow so many units."""
    sentencepiece = _sentencepiece()
    if path.exists():
        raise UserError(f"{path}: is there already; go on with it by `--model {path}`, or give the new one another --name")
    if size < 1:
        raise UserError(f"--size must be at least 1, but is {size}")
    if not any(texts):
        raise UserError(f"{train}: its transcripts have no words")
    content = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=content,
            model_type="unigram",
            vocab_size=size + 1,  # with <unk>
            character_coverage=1.0,  # every letter of the transcripts is a unit
            normalization_rule_name="identity",  # transcripts have their form from `birq-manifest`
            **dict(unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, max_sentence_length=_NO_LIMIT, minloglevel=2),
        )
    except RuntimeError as error:
        raise UserError(_why_not(str(error), size, train)) from None
    return sentencepiece.SentencePieceProcessor(model_proto=content.getvalue())


def _why_not(said: str, size: int, train) -> str:
    """SentencePiece's message as a sentence; its numbers count <unk> too."""
    most, least = re.search(r"to a value <= (\d+)", said), re.search(r"required_chars\. \d+ vs (\d+)", said)
    if most:
        return f"--size {size} is more than the transcripts {train} allow: they give at most {int(most[1]) - 1} units"
    if least:
        return f"--size {size} is less than the transcripts {train} need: their characters alone are {int(least[1]) - 1} units"
    return f"SentencePiece makes no {size} units of the transcripts {train}: {' '.join(said.split())}"


def _load(path):
    sentencepiece = _sentencepiece()
    if not Path(path).is_file():
        raise UserError(f"{path}: no such model; `--size` makes one")
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=Path(path).read_bytes())
        if len(_units(processor)):
            return processor
    except (RuntimeError, TypeError, ValueError):
        pass
    raise UserError(f"{path}: is no model of SentencePiece")


def _units(processor) -> Dict[str, float]:
    """{unit: its log-probability}, in the order of the dictionary."""
    kept = [index for index in range(processor.vocab_size()) if not (processor.is_unknown(index) or processor.is_control(index))]
    return {processor.id_to_piece(index): processor.get_score(index) for index in kept}


def _refuse_other_units(data: Path, name: str, units: Dict[str, float], model) -> None:
    path = data / f"dict.{name}.txt"
    if path.is_file() and [line.rpartition(" ")[0] for _, line in text_lines(path, "dictionary")] != list(units):
        raise UserError(
            f"{path} has other units than {model or 'the new model'}: they do not belong together. Give the model that it was "
            "made with, or another --name"
        )


def _spelt(processor, units, text: str) -> List[str]:
    """A character without a unit stands for itself: a symbol that the dictionary lacks."""
    return [part for unit in processor.encode(text, out_type=str) for part in ([unit] if unit in units else unit) if part.strip()]


def _lexicon(processor, units, texts: Iterable[str]) -> Dict[str, List[str]]:
    """{word: its units} of all words that have units, sorted."""
    words = sorted({word for text in texts for word in text.split()})
    spelt = {word: _spelt(processor, units, word) for word in words}
    return {word: row for word, row in spelt.items() if units.keys() >= set(row)}


def _described(split: str, texts: List[str], spelt: List[List[str]], units) -> str:
    """Units per word of a split, and what has none."""
    words, total = sum(len(text.split()) for text in texts), sum(map(len, spelt))
    line = f"{split:<11} {len(texts)} lines, {words} words, {total} units"
    line += f", {total / words:.2f} a word, at most {max(map(len, spelt))} a line" if words else ""
    foreign = Counter(unit for row in spelt for unit in row if unit not in units)
    if foreign:
        listed = ", ".join(f"{unit!r} ({count} times)" for unit, count in foreign.most_common(_SHOWN))
        line += f"; characters without a unit: {listed}: training refuses them, and decoding counts them as errors"
    empty = sum(not text for text in texts)
    return line + (f"; {empty} lines are empty" if empty else "")
