"""Sample decodings of a fine-tuned model, every error marked by a sign and a colour."""

from pathlib import Path
from typing import List
from xml.etree.ElementTree import Element

from fairseq_birq.decoding.errors import align, count_errors, read_generated
from fairseq_birq.errors import UserError
from fairseq_birq.tools.report.html import missing, node, section


def decodings_section(path, samples: int = 8) -> Element:
    """Error rates of all that `fairseq-generate` wrote, and utterances from the fewest errors to the most.

    path: its output, or None

    Raises:
        UserError: the file is missing or has no decoding with a reference.
    """
    title = "Decodings"
    if path is None:
        option = "--generate LOG, the output of fairseq-generate (generate-<subset>.txt of --results-path)"
        return section("decodings", title, missing("Sample decodings of a fine-tuned model", option))
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; --generate wants what fairseq-generate printed")
    pairs = read_generated(path.read_text(encoding="utf-8", errors="replace"))
    if not pairs:
        raise UserError(f"{path}: has no T- line; --generate wants what fairseq-generate printed, with references")
    counts = count_errors(*map(list, zip(*pairs.values())))
    rates = f"{len(pairs)} utterances: word error rate {counts.wer:.1f} %, character error rate {counts.cer:.1f} %."
    key = node("p", "Signs: ", _marked("insert", "", "word"), " too much, ", _marked("delete", "word", ""), " left out, ",
               _marked("replace", "reference", "decoded"), " mistaken.", class_="note")  # fmt: skip
    chosen = evenly(sorted(pairs, key=lambda name: (_error_share(*pairs[name]), _order(name))), samples)
    note = node("p", f"{len(chosen)} of them, evenly spaced from the fewest word errors to the most:", class_="note")
    return section("decodings", title, node("p", rates), key, note, *(_sample(name, *pairs[name]) for name in chosen))


def evenly(items: List, count: int) -> List:
    """At most `count` of the items, first and last among them where it is more than one."""
    if len(items) <= count:
        return items
    return [items[number * (len(items) - 1) // max(1, count - 1)] for number in range(count)]


def _error_share(reference, hypothesis):
    counts = count_errors([reference], [hypothesis])
    return counts.word_errors / max(1, counts.num_words)


def _order(name):
    return (0, int(name), "") if name.isdigit() else (1, 0, name)


def _sample(name, reference, hypothesis):
    counts = count_errors([reference], [hypothesis])
    line = node("p")
    for kind, expected, decoded in align(reference.split(), hypothesis.split()):
        line.append(_marked(kind, expected, decoded))
        line[-1].tail = " "
    said = f"utterance {name}, errors: {counts.word_errors}, words: {counts.num_words}"
    return node("blockquote", line, node("p", said, class_="note"))


def _marked(kind, expected, decoded) -> Element:
    if kind == "insert":
        return node("ins", f"+{decoded}")
    if kind == "delete":
        return node("del", f"−{expected}")
    if kind == "replace":
        return node("span", f"{expected}→{decoded}", class_="swap")
    return node("span", expected)
