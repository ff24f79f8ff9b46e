"""Door: task `birq_asr`. Waveforms with letters, and what `fairseq-generate` needs to decode and score them."""

import logging
from pathlib import Path
from typing import List

import torch
from fairseq.data import Dictionary
from fairseq.tasks import register_task
from omegaconf import open_dict
from torch import Tensor

from fairseq_birq.config import AsrTaskConfig
from fairseq_birq.data.manifest import read_labels, read_manifest
from fairseq_birq.data.text import ENCODING
from fairseq_birq.data.transcripts import WORD_BOUNDARY, from_letters
from fairseq_birq.decoding import DECODERS
from fairseq_birq.decoding.errors import count_errors
from fairseq_birq.decoding.generator import CtcGenerator
from fairseq_birq.doors.audio_task import AudioTask
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.doors.datasets import FairseqAudioDataset
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.settings import to_dict

logger = logging.getLogger(__name__)

_TAKEN_SETTINGS = ("frontend", "encoder", "initialized_from", "pretrained_path")
DECODING_BATCH_SECONDS = 100  # where `max_tokens` is not given for audio


@register_task("birq_asr", dataclass=as_fairseq(AsrTaskConfig))
class AsrTask(AudioTask):
    """`<data>/<split>.tsv` with `<split>.ltr`; the blank of CTC is the dictionary's `<s>`, as in fairseq."""

    def __init__(self, cfg, dictionary: Dictionary):
        super().__init__(cfg)
        self.dictionary = dictionary
        self.symbols = list(dictionary.symbols)  # fairseq-generate adds words to the dictionary while it scores
        self.sample_rate = cfg.sample_rate
        self.blank = dictionary.bos()
        self.no_letters = (dictionary.pad(), dictionary.eos(), dictionary.unk())
        self.greedy_decoder = DECODERS["greedy"](self.blank, self.no_letters)
        self.batches_left = None

    @classmethod
    @reports_user_errors
    def setup_task(cls, cfg, **kwargs):
        return cls(cfg, read_dictionary(Path(cfg.data).absolute() / f"dict.{cfg.labels}.txt"))

    @property
    def target_dictionary(self):
        return self.dictionary

    def build_model(self, cfg, from_checkpoint=False):
        """Build the model, and keep in `cfg` what it took from a pre-trained checkpoint, for the next checkpoint."""
        model = super().build_model(cfg, from_checkpoint)
        self._agree_on_sample_rate(model.speech_encoder.frontend.sample_rate, from_checkpoint)
        if getattr(cfg, "pretrained_path", None):
            settings = to_dict(model.cfg)
            with open_dict(cfg):
                cfg.merge_with({key: settings[key] for key in _TAKEN_SETTINGS})
        return model

    @reports_user_errors
    def _agree_on_sample_rate(self, model_rate, from_checkpoint):
        if from_checkpoint:
            self.sample_rate = model_rate
        elif self.sample_rate != model_rate:
            raise UserError(
                f"`task.sample_rate` is {self.sample_rate}, but the model's frontend wants {model_rate}; set it to that"
            )

    @reports_user_errors
    def load_dataset(self, split, combine=False, task_cfg=None, **kwargs):
        cfg, folder = self.cfg, Path(self.cfg.data).absolute()
        manifest = read_manifest(folder / f"{split}.tsv")
        self.datasets[split] = FairseqAudioDataset(
            manifest,
            sample_rate=self.sample_rate,
            min_samples=int(cfg.min_seconds * self.sample_rate),
            on_bad_audio=str(cfg.on_bad_audio),
            bad_audio_budget=cfg.bad_audio_budget,
            labels=read_letters(folder / f"{split}.{cfg.labels}", len(manifest), self.dictionary),
            pad_index=self.dictionary.pad(),
        )

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
        """The decoder that `--decoder` names; `args` holds fairseq-generate's `--beam`, `--nbest` and `--lm-weight`."""
        if self.cfg.decoder == "greedy":
            return CtcGenerator(self.greedy_decoder, self.no_letters + (self.blank,))
        if self.cfg.kenlm and args.lm_weight == 0:
            logger.warning("the language model has no influence: --lm-weight is 0")
        decoder = DECODERS[str(self.cfg.decoder)](
            self.symbols,
            blank=self.blank,
            word_boundary=WORD_BOUNDARY,
            lexicon=self.cfg.lexicon,
            kenlm=self.cfg.kenlm,
            lm_weight=args.lm_weight,
            word_score=self.cfg.word_score,
            sil_weight=self.cfg.sil_weight,
            beam=args.beam,
            beam_size_token=self.cfg.beam_size_token,
            beam_threshold=self.cfg.beam_threshold,
            nbest=args.nbest,
        )
        return CtcGenerator(decoder, self.no_letters + (self.blank,))

    def inference_step(self, generator, models, sample, *args, **kwargs):
        """n-best lists as fairseq-generate wants them; logs WER and CER after the last batch."""
        nbest_lists = super().inference_step(generator, models, sample, *args, **kwargs)
        generator.counts += count_errors(
            [self.text(row[:length]) for row, length in zip(sample["target"], sample["target_lengths"])],
            [self.text(nbest[0]["tokens"]) for nbest in nbest_lists],
        )
        if self.batches_left is not None:
            self.batches_left -= 1
            if self.batches_left == 0:
                counts = generator.counts
                logger.info(
                    f"WER: {counts.wer:.2f} % of {counts.num_words} words, CER: {counts.cer:.2f} % of "
                    f"{counts.num_letters} characters"
                )
        return nbest_lists

    def text(self, tokens: Tensor) -> str:
        """Words of (L,) letters, separated by single spaces."""
        return from_letters(self.symbols[token] for token in tokens.tolist())

    def state_dict(self):
        return {"symbols": self.symbols}

    @reports_user_errors
    def load_state_dict(self, state_dict):
        symbols = state_dict.get("symbols", self.symbols)
        if symbols != self.symbols:
            raise UserError(
                f"the checkpoint was trained with another dictionary than {self.cfg.data}/dict.{self.cfg.labels}.txt; "
                f"copy the one of its training data there. Its letters are: {' '.join(symbols[4:])}"
            )


def read_dictionary(path) -> Dictionary:
    """A fairseq dictionary: `symbol count` lines, after fairseq's own four symbols.

    Raises:
        UserError: the file is missing, empty or malformed.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such dictionary; `birq-manifest FOLDER OUT --transcripts FILE` writes it")
    try:
        with open(path, encoding=ENCODING) as file:
            dictionary = Dictionary.load(file)
    except Exception as error:  # fairseq raises bare ones, as for text that is not UTF-8
        raise UserError(f"{path}: must have lines of `symbol count`: {error}") from None
    if len(dictionary) == dictionary.nspecial:
        raise UserError(f"{path}: has no letters")
    return dictionary


def read_letters(path, expected_lines: int, dictionary: Dictionary) -> List[Tensor]:
    """One (L,) int32 tensor of letters per row of the manifest.

    Raises:
        UserError: the file is missing, has another number of lines, or a letter that the dictionary lacks.
    """
    lines = read_labels(path, expected_lines)
    rows = []
    for number, line in enumerate(lines, start=1):
        unknown = [letter for letter in line.split() if letter not in dictionary.indices]
        if unknown:
            raise UserError(
                f"{path}, line {number}: the dictionary lacks the letter {unknown[0]!r}; add it to the dictionary and "
                "train again, or take it out of the transcript"
            )
        rows.append(torch.tensor([dictionary.indices[letter] for letter in line.split()], dtype=torch.int32))
    return rows
