"""Probabilities of words, one word at a time: of KenLM's n-gram models, through flashlight-text, or of no model."""

from typing import Any, Dict, List, Sequence, Tuple

from fairseq_birq.decoding.lexicon import NO_WORD, import_flashlight, load_language_model, missing_words, report_missing_words


class NoWordModel:
    """Every word has probability 1. Histories, which are numbered, are told apart by their words."""

    start = 0  # the history of a sentence's first word

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Forget all histories but the start."""
        self._states: List[Any] = [self._first()]
        self._known: Dict[Tuple[int, str], Tuple[int, float]] = {}

    def score(self, history: int, word: str) -> Tuple[int, float]:
        """(history with the word, log10-probability of the word)."""
        key = (history, word)
        if key not in self._known:
            state, score = self._next(self._states[history], word)
            self._states.append(state)
            self._known[key] = len(self._states) - 1, score
        return self._known[key]

    def end(self, history: int) -> float:
        """log10-probability that the sentence ends here."""
        return 0.0

    def _first(self) -> Any:
        return None

    def _next(self, state, word: str) -> Tuple[Any, float]:
        return None, 0.0


class WordModel(NoWordModel):
    """KenLM's n-gram model.

    Args:
        path: an .arpa file or KenLM's binary.
        words: that will be asked for.
        lexicon: where they are from, for messages.

    Raises:
        UserError: flashlight-text is not installed, the file is missing or malformed, or has none of the words.
    """

    def __init__(self, path: str, words: Sequence[str], lexicon):
        flashlight = import_flashlight()
        known = flashlight.Dictionary([*words, *(word for word in ("<unk>", NO_WORD) if word not in words)])
        known.set_default_index(known.get_index("<unk>"))
        self._model = load_language_model(flashlight, path, known)
        report_missing_words(words, missing_words(path, words, self._model, known), lexicon, path)
        self._indices = {word: known.get_index(word) for word in words}
        super().__init__()

    def end(self, history: int) -> float:
        return float(self._model.finish(self._states[history])[1])

    def _first(self) -> Any:
        return self._model.start(False)

    def _next(self, state, word: str) -> Tuple[Any, float]:
        state, score = self._model.score(state, self._indices[word])
        return state, float(score)
