"""Which decoder the options ask for. An option that would have no effect is an error, never ignored."""

from typing import Dict, Optional

from fairseq_birq.errors import UserError

OF_LEXICON = {  # options that only the lexicon decoder reads, and the values that say nothing
    "lexicon": None,
    "kenlm": None,
    "lm_weight": 0.0,
    "word_score": 0.0,
    "sil_weight": 0.0,
    "beam": 5,  # fairseq's default
    "beam_size_token": 0,
    "beam_threshold": 50.0,
    "nbest": 1,
}
SAYS_NOTHING = {"beam": (1,)}  # what greedy decoding does anyway


def choose_decoder(wanted: str, options: Dict[str, object], names: Optional[Dict[str, str]] = None, defaults=OF_LEXICON) -> str:
    """`greedy` or `lexicon`.

    wanted: a name, or "auto": lexicon where a lexicon is given, else greedy
    options: values by the names of `OF_LEXICON`, some or all of them
    names: what the user calls an option where that is not `--option-name`
    defaults: values that say nothing, where they are not those of fairseq-generate

    Raises:
        UserError: an option would have no effect.
    """
    names = names or {}
    given = [key for key in OF_LEXICON if options.get(key, defaults[key]) not in (defaults[key], *SAYS_NOTHING.get(key, ()))]
    shown = {key: names.get(key, f"--{key.replace('_', '-')}") for key in OF_LEXICON}
    chosen = wanted if wanted != "auto" else ("lexicon" if "lexicon" in given else "greedy")
    if chosen == "greedy" and given:
        listed = ", ".join(f"{shown[key]} {options[key]}" for key in given)
        instead = f"leave out `--decoder {wanted}`" if "lexicon" in given else f"give a lexicon as {shown['lexicon']}"
        raise UserError(
            f"greedy decoding has one hypothesis and no words, so that {listed} would have no effect: {instead}, or leave out "
            f"{'this option' if len(given) == 1 else 'these options'}"
        )
    if chosen == "lexicon" and "lm_weight" in given and "kenlm" not in given:
        raise UserError(f"{shown['lm_weight']} weighs a language model, but none is given as {shown['kenlm']}")
    return chosen


def refuse_foreign_options(given: Dict[str, object], defaults: Dict[str, object], known) -> None:
    """Raises UserError where one of fairseq's own generation options is set that no decoder here reads.

    given, defaults: value by name; known: names that are read
    """
    ignored = sorted(key for key, value in given.items() if key in defaults and key not in known and value != defaults[key])
    if ignored:
        listed = ", ".join(f"--{key.replace('_', '-')}" for key in ignored)
        raise UserError(f"{listed}: CTC decoding has no such thing, so that it would have no effect; leave it out")
