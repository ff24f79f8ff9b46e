"""An n-gram language model of a text, in the ARPA format that `--kenlm` reads: for texts that fit in memory.

    python manifests/ngram.py lm.txt lm.3gram.arpa --order 3

Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998, section 3), as `lmplz --discount_fallback` of KenLM does it
(Heafield et al. 2013, section 3): the same n-grams in the same order, and probabilities that differ by rounding alone. A line
of the text is a sentence. For billions of words take lmplz, which works on disk.
"""

import argparse
import sys
from collections import Counter, defaultdict
from math import log10
from pathlib import Path

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
FALLBACK = (0.0, 0.5, 1.0, 1.5)  # discounts of counts 0, 1, 2, 3 and more, where a text is too small to estimate them


def adjusted_counts(sentences, order):
    """[n - 1][n-gram] -> count: of the longest how often it is there, of others how many different words stand before it.

    An n-gram that begins a sentence has no word before it, and keeps its own count.
    """
    counts = [Counter() for _ in range(order)]
    for words in sentences:
        padded = (BEGIN, *words, END)
        for end in range(1, len(padded) + 1):
            for size in range(1, order + 1):
                if end >= size and (size == order or end == size):
                    counts[size - 1][padded[end - size : end]] += 1
    for size in range(order - 1, 0, -1):
        counts[size - 1].update(ngram[1:] for ngram in counts[size])
    del counts[0][(BEGIN,)]  # it is never predicted
    return counts


def discounts(counts):
    """Discounts of counts 0, 1, 2, 3 and more: Chen and Goodman's equation 26."""
    numbers = Counter(counts.values())
    if not all(numbers[count] for count in range(1, 5)):
        return FALLBACK
    share = numbers[1] / (numbers[1] + 2 * numbers[2])
    found = [0.0] + [count - (count + 1) * share * numbers[count + 1] / numbers[count] for count in (1, 2, 3)]
    return tuple(found) if all(0 <= value <= count for count, value in enumerate(found)) else FALLBACK


def estimate(sentences, order):
    """([n - 1][n-gram] -> probability, [context] -> weight of the shorter model) of sentences of words."""
    counts = adjusted_counts(sentences, order)
    words = {word for (word,) in counts[0]} | {UNKNOWN}
    probabilities, backoffs = [], {}
    for size, table in enumerate(counts, start=1):
        discount, totals, kept = discounts(table), Counter(), defaultdict(float)
        for ngram, count in table.items():
            totals[ngram[:-1]] += count
            kept[ngram[:-1]] += discount[min(count, 3)]
        backoffs.update((context, kept[context] / total) for context, total in totals.items())
        shorter = probabilities[-1] if probabilities else dict.fromkeys([()], 1 / len(words))
        probabilities.append({})
        for ngram in table if size > 1 else [(word,) for word in words]:
            count = table[ngram]
            own = (count - discount[min(count, 3)]) / totals[ngram[:-1]]
            probabilities[-1][ngram] = own + backoffs[ngram[:-1]] * shorter[ngram[1:]]
    return probabilities, backoffs


def arpa_lines(probabilities, backoffs, vocabulary):
    """vocabulary: words in the order of the file, which is sorted by the last word of an n-gram first."""
    rank = {word: place for place, word in enumerate(vocabulary)}
    yield "\\data\\"
    yield from (f"ngram {size}={len(table) + (size == 1)}" for size, table in enumerate(probabilities, start=1))
    for size, table in enumerate(probabilities, start=1):
        yield f"\n\\{size}-grams:"
        table = {**table, (BEGIN,): 1.0} if size == 1 else table
        for ngram in sorted(table, key=lambda ngram: [rank[word] for word in reversed(ngram)]):
            fields = [_number(log10(table[ngram])), " ".join(ngram)]
            if size < len(probabilities):
                fields.append(_number(log10(backoffs.get(ngram, 1.0))))
            yield "\t".join(fields)
    yield "\n\\end\\"


def _number(value):
    return f"{value:.7g}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a sentence a line, words separated by spaces")
    parser.add_argument("out", type=Path, help="the .arpa file")
    parser.add_argument("--order", type=int, default=3, help="words of the longest n-gram (3)")
    args = parser.parse_args()
    sentences = [line.split() for line in args.text.read_text(encoding="utf-8").splitlines() if line.strip()]
    reserved = {UNKNOWN, BEGIN, END}.intersection(word for words in sentences for word in words)
    if args.order < 2 or not sentences or reserved:
        print(f"error: {args.text}: needs --order >= 2, sentences, and none of {UNKNOWN} {BEGIN} {END} in them", file=sys.stderr)
        return 2
    vocabulary = dict.fromkeys([UNKNOWN, BEGIN, END, *(word for words in sentences for word in words)])
    lines = arpa_lines(*estimate(sentences, args.order), vocabulary)
    unfinished = args.out.with_name(args.out.name + ".tmp")
    unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    unfinished.replace(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
