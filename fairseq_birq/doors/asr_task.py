"""Door: task `birq_asr`. Waveforms with letters or subword units, and what `fairseq-generate` needs to decode and score them."""

import logging
from dataclasses import fields
from pathlib import Path
from typing import List

from fairseq.data import Dictionary
from fairseq.dataclass.configs import GenerationConfig
from fairseq.tasks import register_task
from omegaconf import open_dict
from torch import Tensor

from fairseq_birq.config import AsrTaskConfig
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.data.text import ENCODING
from fairseq_birq.data.transcripts import are_subwords, foreign_letters, read_letter_rows, read_unit_scores, text_of
from fairseq_birq.decoding import DECODERS, lexicon_decoder
from fairseq_birq.decoding.errors import count_errors
from fairseq_birq.decoding.generator import CtcGenerator
from fairseq_birq.decoding.options import OF_LEXICON, choose_decoder, refuse_foreign_options
from fairseq_birq.doors.audio_task import AudioTask
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.doors.datasets import FairseqAudioDataset
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.settings import to_dict

logger = logging.getLogger(__name__)

_TAKEN_SETTINGS = ("frontend", "encoder", "initialized_from", "pretrained_path")
_GENERATION_OPTIONS = ("beam", "nbest", "lm_weight")  # of fairseq's own, those that are read here
_UNREAD = ("no_seed_provided", "iter_decode_max_iter")  # set by fairseq itself
_GENERATION_DEFAULTS = {one.name: one.default for one in fields(GenerationConfig) if one.name not in _UNREAD}
DECODING_BATCH_SECONDS = 100  # where `max_tokens` is not given for audio


@register_task("birq_asr", dataclass=as_fairseq(AsrTaskConfig))
class AsrTask(AudioTask):
    """`<data>/<split>.tsv` with `<split>.ltr`; the blank of CTC is the dictionary's `<s>`, as in fairseq."""

    model_name = "birq_ctc"
    other_model_hint = (
        ". A pre-trained model knows no letters: fine-tune it first, with model._name=birq_ctc and model.pretrained_path "
        "(examples/finetune)"
    )

    def __init__(self, cfg, dictionary: Dictionary):
        super().__init__(cfg)
        self.dictionary = dictionary
        self.symbols = list(dictionary.symbols)  # fairseq-generate adds words to the dictionary while it scores
        self.blank = dictionary.bos()
        self.no_letters = (dictionary.pad(), dictionary.eos(), dictionary.unk())
        self.greedy_decoder = DECODERS["greedy"](self.blank, self.no_letters)
        self.batches_left = None
        self.is_trained = False  # or validated: there is a criterion, which needs transcripts
        self.is_decoded = False
        self.unit_scores = None  # of subword units, for exports
        self.letters_of_checkpoint = False

    @classmethod
    @reports_user_errors
    def setup_task(cls, cfg, **kwargs):
        """Without a dictionary in `data`, the letters are those of the checkpoint that is loaded next."""
        folder = Path(cfg.data).absolute()
        path = folder / f"dict.{cfg.labels}.txt"
        task = cls(cfg, read_dictionary(path) if path.exists() else LetterDictionary())
        if task.dictionary.has_subwords:
            task.unit_scores = read_unit_scores(folder / f"{cfg.labels}.vocab", task.symbols[task.dictionary.nspecial :])
        return task

    def build_criterion(self, cfg, *args, **kwargs):
        self.is_trained = True
        self._report_decoding_options()
        return super().build_criterion(cfg, *args, **kwargs)

    def _report_decoding_options(self):
        given = [key for key, default in OF_LEXICON.items() if getattr(self.cfg, key, default) != default]
        if given or self.cfg.decoder == "lexicon":
            names = ", ".join(f"task.{key}" for key in given or ["decoder"])
            logger.warning(f"{names}: for fairseq-generate alone; training and its validation decode greedily")

    @property
    def target_dictionary(self):
        return self.dictionary

    def build_model(self, cfg, from_checkpoint=False):
        """Build the model, and keep in `cfg` what it took from a pre-trained checkpoint, for the next checkpoint."""
        self.check_model(cfg, from_checkpoint)
        self.is_decoded = from_checkpoint
        self._require_letters()
        model = super().build_model(cfg, from_checkpoint)
        if getattr(cfg, "pretrained_path", None):
            settings = to_dict(model.cfg)
            with open_dict(cfg):
                cfg.merge_with({key: settings[key] for key in _TAKEN_SETTINGS})
        return model

    @reports_user_errors
    def _require_letters(self):
        if len(self.symbols) == self.dictionary.nspecial:
            read_dictionary(self._dictionary_path())

    @reports_user_errors
    def load_dataset(self, split, combine=False, task_cfg=None, **kwargs):
        cfg, folder = self.cfg, Path(self.cfg.data).absolute()
        manifest = read_manifest(folder / f"{split}.tsv")
        letters = folder / f"{split}.{cfg.labels}"
        without_transcripts = self.is_decoded and not self.is_trained and not letters.exists()
        if without_transcripts:
            logger.info(f"{letters} is not there: {split} is decoded without scoring")
        self.datasets[split] = FairseqAudioDataset(
            manifest,
            sample_rate=self.sample_rate,
            min_samples=int(cfg.min_seconds * self.sample_rate),
            on_bad_audio=str(cfg.on_bad_audio),
            bad_audio_budget=cfg.bad_audio_budget,
            letters=None if without_transcripts else self._read_letters(letters, len(manifest)),
            pad_index=self.dictionary.pad(),
            speeds=cfg.speeds if "data_selector" in kwargs else [1.0],  # what fairseq says of training data alone
        )

    def _read_letters(self, path, expected_lines):
        """Decoding counts a letter that the checkpoint lacks as an error of it; training refuses such a transcript."""
        if not self.is_decoded or self.is_trained:
            return read_letters(path, expected_lines, self.dictionary)
        foreign = foreign_letters(path, expected_lines, self.dictionary.indices)
        if foreign:
            listed = ", ".join(f"{letter!r} ({count} times)" for letter, count in foreign.most_common(20))
            logger.warning(f"{path}: letters that the checkpoint lacks: {listed}; each of them counts as an error")
        for letter in foreign:
            self.dictionary.add_symbol(letter)
        return read_letters(path, expected_lines, self.dictionary)

    def get_batch_iterator(self, dataset, max_tokens=None, **kwargs):
        """As in fairseq, but where nothing may be skipped, `max_tokens` grows to the longest utterance.

        fairseq-generate's default of 12000 counts samples here, less than a second.
        """
        if max_tokens is not None and not kwargs.get("ignore_invalid_inputs", False):
            max_tokens = self._fit_max_tokens(max_tokens, int(dataset.sizes.max()))
        iterator = super().get_batch_iterator(dataset, max_tokens=max_tokens, **kwargs)
        self.batches_left = len(iterator)
        return iterator

    def _fit_max_tokens(self, max_tokens, longest):
        wanted = max(max_tokens, longest)
        if max_tokens < self.sample_rate:
            wanted = max(wanted, DECODING_BATCH_SECONDS * self.sample_rate)
        if wanted != max_tokens:
            logger.info(f"max_tokens raised from {max_tokens} to {wanted} samples, {wanted / self.sample_rate:.0f} s")
        return wanted

    @reports_user_errors
    def build_generator(self, models, args, seq_gen_cls=None, extra_gen_cls_kwargs=None, **kwargs):
        """The decoder that `--decoder` names; `args` holds fairseq-generate's `--beam`, `--nbest` and `--lm-weight`.

        Raises:
            UserError: an option, of ours or of fairseq's, would have no effect.
        """
        refuse_foreign_options(dict(_items(args)), _GENERATION_DEFAULTS, _GENERATION_OPTIONS)
        options = {key: getattr(args if key in _GENERATION_OPTIONS else self.cfg, key) for key in OF_LEXICON}
        to_strip = self.no_letters + (self.blank,)
        if choose_decoder(str(self.cfg.decoder), options) == "greedy":
            return CtcGenerator(self.greedy_decoder, to_strip)
        if options["kenlm"] and options["lm_weight"] == 0:
            logger.warning("the language model has no influence: --lm-weight is 0")
        return CtcGenerator(lexicon_decoder(self.symbols, self.blank, **options), to_strip)

    def inference_step(self, generator, models, sample, *args, **kwargs):
        """n-best lists as fairseq-generate wants them; logs WER and CER after the last batch, where there are transcripts."""
        nbest_lists = super().inference_step(generator, models, sample, *args, **kwargs)
        if sample.setdefault("target", None) is not None:
            generator.counts += count_errors(
                [self.text(row[:length]) for row, length in zip(sample["target"], sample["target_lengths"])],
                [self.text(nbest[0]["tokens"]) for nbest in nbest_lists],
            )
        if self.batches_left is not None:
            self.batches_left -= 1
            if self.batches_left == 0:
                logger.info(_summary(generator.counts))
        return nbest_lists

    def text(self, tokens: Tensor) -> str:
        """Words of (L,) symbols, separated by single spaces."""
        return text_of((self.dictionary[token] for token in tokens.tolist()), self.dictionary.has_subwords)

    def state_dict(self):
        return {"symbols": self.symbols, **({"unit_scores": self.unit_scores} if self.unit_scores else {})}

    @reports_user_errors
    def load_state_dict(self, state_dict):
        """The letters of a checkpoint. Decoding takes them; training needs the same in its own dictionary.

        Raises:
            UserError: training would go on with other letters, or the models of an ensemble differ in theirs.
        """
        symbols = state_dict.get("symbols")
        if symbols is None or symbols == self.symbols:
            self.unit_scores = self.unit_scores or state_dict.get("unit_scores")
            self.letters_of_checkpoint = self.letters_of_checkpoint or symbols is not None
            return
        listed = f"Its letters are: {' '.join(symbols[self.dictionary.nspecial :])}"
        if self.is_trained:
            raise UserError(
                f"the checkpoint was trained with another dictionary than {self._dictionary_path()}; copy the one of its "
                f"training data there. {listed}"
            )
        if self.letters_of_checkpoint:
            raise UserError(f"these checkpoints have different letters and cannot be averaged. {listed}")
        if len(self.symbols) > self.dictionary.nspecial:
            logger.info(f"the letters of the checkpoint are used, not those of {self._dictionary_path()}. {listed}")
        self.letters_of_checkpoint = True
        self.dictionary.become(symbols)
        self.symbols, self.unit_scores = list(symbols), state_dict.get("unit_scores")

    def _dictionary_path(self) -> Path:
        return Path(self.cfg.data).absolute() / f"dict.{self.cfg.labels}.txt"


class LetterDictionary(Dictionary):
    """A dictionary of letters or subword units that writes words: fairseq-generate prints and scores words in any case.

    fairseq writes letters unless it is told `--post-process letter`, and its last line would be an error rate of letters that
    is called WER.
    """

    writes_words = True  # patches/scoring.py looks for it
    has_subwords = False

    @reports_user_errors
    def string(self, tensor, bpe_symbol=None, *args, **kwargs):
        """As in fairseq, but `None`, its default, means "letter" or "sentencepiece", whichever the symbols are.

        Raises:
            UserError: a kind of post-processing does not fit the symbols.
        """
        fits = "sentencepiece" if self.has_subwords else "letter"
        if bpe_symbol not in (None, fits):
            units = "subword units" if self.has_subwords else "letters"
            raise UserError(f"`--post-process {bpe_symbol}` does not fit {units}; leave it out, or write `--post-process {fits}`")
        return " ".join(super().string(tensor, fits, *args, **kwargs).split())

    def become(self, symbols) -> None:
        """These symbols in their order, in place: fairseq-generate holds on to this object."""
        self.symbols, self.count, self.indices = list(symbols), [1] * len(symbols), {s: i for i, s in enumerate(symbols)}
        self.settle()

    def settle(self) -> None:
        """See of which kind the symbols are. What is added later, by transcripts or by scoring, does not change it."""
        self.has_subwords = are_subwords(self.symbols)


def _items(args):
    """(name, value) of fairseq's options, of a configuration or a namespace."""
    return args.items() if hasattr(args, "items") else vars(args).items()


def _summary(counts) -> str:
    if not counts.num_words:
        return "decoded without scoring: there are no transcripts"
    return f"WER: {counts.wer:.2f} % of {counts.num_words} words, CER: {counts.cer:.2f} % of {counts.num_letters} characters"


def read_dictionary(path) -> Dictionary:
    """A fairseq dictionary: `symbol count` lines, after fairseq's own four symbols.

    Raises:
        UserError: the file is missing, empty or malformed.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such dictionary; `birq-manifest FOLDER OUT --transcripts FILE` writes that of letters")
    try:
        with open(path, encoding=ENCODING) as file:
            dictionary = LetterDictionary.load(file)
    except Exception as error:  # fairseq raises bare ones, as for text that is not UTF-8
        raise UserError(f"{path}: must have lines of `symbol count`: {error}") from None
    if len(dictionary) == dictionary.nspecial:
        raise UserError(f"{path}: has no letters")
    dictionary.settle()
    return dictionary


def read_letters(path, expected_lines: int, dictionary: Dictionary) -> List[Tensor]:
    """One (L,) int32 tensor of letters per row of the manifest. Raises UserError as `read_letter_rows`."""
    return read_letter_rows(path, expected_lines, dictionary.indices)
