"""Beam search over the words of a lexicon with an n-gram language model: flashlight-text and KenLM."""

import itertools
import logging
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from torch import Tensor

from fairseq_birq.data.text import text_lines
from fairseq_birq.decoding.base import Decoder, Hypothesis, collapse
from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)

INSTALL_HINT = "the lexicon decoder needs flashlight-text and KenLM: pip install 'fairseq_birq[decode]'"
NO_WORD = "<no such word>"  # with spaces, so that no language model has it
_EXAMPLES = 5
SPELLING = "word<TAB>l e t t e r s |"
LONGEST_SPELLING = 1000  # flashlight-text goes down a word letter by letter on the stack


class LexiconDecoder(Decoder):
    """Words of a lexicon that maximise, over words W and their CTC paths p (the best path, not the sum),

        log P(p) + lm_weight x log10 P_lm(W) + word_score x |W| + sil_weight x boundary frames of p.

    Args:
        symbols: the dictionary, in the order of the emissions.
        blank: index of CTC's blank.
        word_boundary: the symbol after every word; it may be silent for any number of frames.
        lexicon: file of `word<TAB>l e t t e r s |`; several lines for a word with several spellings.
        kenlm: n-gram model over words, or None for no language model.
        beam: hypotheses kept per frame.
        beam_size_token: letters tried per frame; 0 tries all.
        beam_threshold: hypotheses this far behind the best are dropped.
        nbest: hypotheses returned; they can be fewer.

    Raises:
        UserError: flashlight-text or KenLM is not installed, a file is missing or malformed, a number out of range, or the
            language model has no word of the lexicon.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        blank: int,
        lexicon: Optional[str],
        word_boundary: str = "|",
        kenlm: Optional[str] = None,
        lm_weight: float = 0.0,
        word_score: float = 0.0,
        sil_weight: float = 0.0,
        beam: int = 50,
        beam_size_token: int = 0,
        beam_threshold: float = 50.0,
        nbest: int = 1,
    ):
        flashlight = import_flashlight()
        check_beam(beam, nbest, beam_size_token, beam_threshold)
        indices = {symbol: index for index, symbol in enumerate(symbols)}
        if word_boundary not in indices:
            raise UserError(f"the dictionary lacks {word_boundary!r}, the word boundary that the lexicon decoder needs")
        self.blank, self.boundary, self.nbest = blank, indices[word_boundary], nbest
        self.vocabulary_size = len(symbols)
        spellings = read_lexicon(lexicon, indices)
        self.words = flashlight.Dictionary(list(spellings) + [w for w in ["<unk>", NO_WORD] if w not in spellings])
        self.words.set_default_index(self.words.get_index("<unk>"))
        model = load_language_model(flashlight, kenlm, self.words)
        if kenlm:
            report_missing_words(list(spellings), missing_words(kenlm, list(spellings), model, self.words), lexicon, kenlm)
        options = flashlight.LexiconDecoderOptions(
            beam_size=beam,
            beam_size_token=min(beam_size_token or len(symbols), len(symbols)),
            beam_threshold=beam_threshold,
            lm_weight=lm_weight,
            word_score=word_score,
            unk_score=-float("inf"),
            sil_score=sil_weight,
            log_add=False,
            criterion_type=flashlight.CriterionType.CTC,  # type: ignore[attr-defined]
        )
        trie = self._build_trie(flashlight, spellings, model)
        unknown = self.words.get_index("<unk>")
        self.search = flashlight.LexiconDecoder(options, trie, model, self.boundary, blank, unknown, [], False)

    def _build_trie(self, flashlight, spellings, model):
        trie = flashlight.Trie(self.vocabulary_size, self.boundary)
        start = model.start(False)
        for word, variants in spellings.items():
            index = self.words.get_index(word)
            _, score = model.score(start, index)
            for spelling in variants:
                trie.insert(spelling, index, score)
        trie.smear(flashlight.SmearingMode.MAX)
        return trie

    def decode_one(self, log_probs: Tensor) -> List[Hypothesis]:
        if len(log_probs) == 0:
            return [collapse([], log_probs, self.blank, words=[], score=0.0)]
        emissions = log_probs.contiguous()
        results = self.search.decode(emissions.data_ptr(), *emissions.shape)
        if not results:
            return [collapse([self.blank] * len(emissions), emissions, self.blank, words=[])]
        return [self._hypothesis(result, emissions) for result in results[: self.nbest]]

    def _hypothesis(self, result, emissions) -> Hypothesis:
        path = result.tokens[1:-1]  # flashlight adds a frame at both ends
        words = [self.words.get_entry(word) for word in result.words if word >= 0]
        return self._without_extra_boundaries(collapse(path, emissions, self.blank, words, result.score))

    def _without_extra_boundaries(self, found: Hypothesis) -> Hypothesis:
        """Silence before the first word and between words is no letter of the transcript."""
        is_boundary = found.tokens == self.boundary
        kept = ~is_boundary
        kept[1:] |= ~is_boundary[:-1]
        of_symbols = {key: getattr(found, key)[kept] for key in ("tokens", "token_scores", "token_frames", "token_ends")}
        return replace(found, **of_symbols)


def check_beam(beam: int, nbest: int, beam_size_token: int, beam_threshold: float) -> None:
    """Raises UserError for a number that is out of range."""
    if beam < 1 or nbest < 1:
        raise UserError(f"`--beam` and `--nbest` must be at least 1, but are {beam} and {nbest}")
    if beam_size_token < 0 or beam_threshold <= 0:
        raise UserError(
            f"`--beam-size-token` must be at least 0 and `--beam-threshold` above 0, but are {beam_size_token} and "
            f"{beam_threshold}"
        )
    if nbest > beam:
        raise UserError(f"`--nbest` is {nbest}, but `--beam` {beam} keeps no more hypotheses than that; raise it")


def read_lexicon(path, indices: Dict[str, int], form: str = SPELLING) -> Dict[str, List[List[int]]]:
    """Spellings of each word as dictionary indices. indices: symbol -> index; form: of a line, for messages.

    Raises:
        UserError: the file is missing, empty or not UTF-8, or a line has no spelling, a very long one, or a letter that the
            dictionary lacks.
    """
    if not path or not Path(path).is_file():
        raise UserError(f"lexicon {path} does not exist; give a file of `{form}` lines as --lexicon")
    spellings: Dict[str, List[List[int]]] = {}
    foreign: Dict[str, str] = {}  # letter that the dictionary lacks -> its first line
    lines_with_foreign, num_lines = 0, 0
    for number, line in text_lines(path, "lexicon"):
        if not line.strip():
            continue
        num_lines += 1
        word, *letters = line.split()
        if not letters:
            raise UserError(f"{path}, line {number}: {word!r} has no spelling; write `{form}`")
        if len(letters) > LONGEST_SPELLING:
            raise UserError(
                f"{path}, line {number}: {word[:50]!r} has {len(letters)} letters, more than {LONGEST_SPELLING}; remove it"
            )
        unknown = [letter for letter in letters if letter not in indices]
        for letter in unknown:
            foreign.setdefault(letter, f"line {number}: {word!r} is spelt with {letter!r}, which the dictionary lacks")
        lines_with_foreign += bool(unknown)
        if not unknown:
            spellings.setdefault(word, []).append([indices[letter] for letter in letters])
    if foreign:
        more = ", ".join(repr(letter) for letter in list(foreign)[:20])
        raise UserError(
            f"{path}, {next(iter(foreign.values()))}. In all {lines_with_foreign} of {num_lines} lines have letters that it "
            f"lacks: {more}. Write the lexicon in the letters and the case of the training transcripts, or take these lines out"
        )
    if not spellings:
        raise UserError(f"{path}: has no words")
    return spellings


def missing_words(path, words: Sequence[str], model, dictionary) -> List[str]:
    """The words that a language model lacks, in their order.

    An .arpa file is read. KenLM's binary need not hold its words: there a word is missing that scores as an unknown one does.

    model: flashlight's `KenLM`; dictionary: flashlight's `Dictionary`, with `words`
    """
    known = arpa_words(path)
    if known is not None:
        return [word for word in words if word not in known]
    start = model.start(False)

    def score(word):
        return model.score(start, dictionary.get_index(word))[1]

    unknown = score(NO_WORD)
    return [word for word in words if score(word) == unknown]


def arpa_words(path) -> Optional[Set[str]]:
    """The unigrams of an .arpa file; None where the file is of another kind."""
    words, inside = set(), False
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        if not any(line.strip() == "\\data\\" for line in itertools.islice(file, 100)):
            return None
        for line in file:
            if line.startswith("\\"):
                if inside:
                    break
                inside = line.strip() == "\\1-grams:"
            elif inside and line.strip():
                words.add(line.split()[1])
    return words


def report_missing_words(words, missing, lexicon, kenlm) -> None:
    """A warning that counts the lexicon's words without a probability. Raises UserError where all of them are."""
    if not missing:
        return
    examples = ", ".join(repr(word) for word in missing[:_EXAMPLES])
    counted = f"{len(missing)} of the {len(words)} words of {lexicon} are not in the language model {kenlm}, as {examples}"
    advice = "Are both of the same language, and in the same case and spelling?"
    if len(missing) == len(words):
        raise UserError(f"{counted}: it can tell none of them from any other. {advice}")
    share = 100.0 * len(missing) / len(words)
    logger.warning(f"{counted} ({share:.1f} %); each is scored as an unknown word. {advice}")


class _Flashlight(NamedTuple):
    CriterionType: type
    Dictionary: type
    KenLM: type
    LexiconDecoder: type
    LexiconDecoderOptions: type
    SmearingMode: type
    Trie: type
    ZeroLM: type


def import_flashlight() -> _Flashlight:
    try:
        from flashlight.lib.text import decoder
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary
    except ImportError as error:
        raise UserError(f"{INSTALL_HINT} ({error})") from None
    known = {"KenLM": KenLM, "Dictionary": Dictionary}
    return _Flashlight(**{name: known.get(name) or getattr(decoder, name) for name in _Flashlight._fields})


def _said(error) -> str:
    """KenLM's sentence, without the place in its source that threw it."""
    return " ".join(str(error).rpartition("Exception.")[2].split()) or repr(error)


def load_language_model(flashlight, path, words):
    if not path:
        return flashlight.ZeroLM()
    if not Path(path).is_file():
        raise UserError(f"language model {path} does not exist; --kenlm wants an .arpa file or KenLM's binary")
    try:
        return flashlight.KenLM(str(path), words)
    except Exception as error:  # KenLM's own C++ exceptions arrive as RuntimeError and others
        raise UserError(f"language model {path} cannot be read by KenLM: {_said(error)}") from None
