"""What one batch of fine-tuning gives, whoever trains: CTC's loss, and sums that are added up over batches and processes."""

import logging
from typing import Dict, Tuple

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from fairseq_birq.decoding.base import frames_needed
from fairseq_birq.decoding.errors import ErrorCounts, count_errors, rate
from fairseq_birq.training import disturbance_curves

logger = logging.getLogger(__name__)


class CtcStep:
    """CTC (Graves et al. 2006) in float32, summed over utterances, in nats; in eval mode also word and letter errors.

    Utterances with more letters than frames have no alignment: they give no gradient, are counted in
    `too_long_targets` and named once in a warning.

    Args:
        letters: an `Alphabet`, or what has its `blank`, `greedy_decoder` and `text`.
        sentence_avg: `sample_size`, by which gradients are divided, counts utterances; else letters.
        decoder: of eval mode; None: greedy.
        on_decoded: called in eval mode with a batch's ids, transcripts and what the decoder hears, or None.
    """

    def __init__(self, letters, sentence_avg: bool = False, decoder=None, on_decoded=None):
        self.letters = letters
        self.sentence_avg = sentence_avg
        self.decoder = decoder or letters.greedy_decoder
        self.on_decoded = on_decoded
        self.warned = False

    def __call__(self, model, sample: dict) -> Tuple[Tensor, Dict[str, object]]:
        """model: a `BirqCtcModel`, maybe wrapped; sample: what the collater of `AudioDataset` made."""
        output = model(**sample["net_input"])
        log_probs = output.logits.float().log_softmax(-1)
        frames = (~output.padding_mask).sum(1)
        loss = self._loss(log_probs, frames, sample)
        num_letters, num_utterances = int(sample["target_lengths"].sum()), sample["id"].numel()
        sums = {
            "loss": loss.detach(),
            "sample_size": num_utterances if self.sentence_avg else num_letters,
            "ntokens": num_letters,
            "nsentences": num_utterances,
            "too_long_targets": self._count_too_long(sample, frames),
            "bad_audio": sample["bad_audio"],
        }
        sums.update(disturbance_curves.pack(output.realised))
        if not model.training:
            sums.update(vars(self._count_errors(log_probs, frames, sample)))
        return loss, sums

    def _loss(self, log_probs, frames, sample) -> Tensor:
        """Zero, but with a graph, for a batch without utterances or frames."""
        if log_probs.numel() == 0:
            return log_probs.sum()
        with torch.backends.cudnn.flags(enabled=False):
            return ctc_loss(
                log_probs.transpose(0, 1),
                sample["target"],
                frames,
                sample["target_lengths"],
                blank=self.letters.blank,
                reduction="sum",
                zero_infinity=True,
            )

    def _count_too_long(self, sample, frames) -> int:
        too_long = frames_needed(sample["target"], sample["target_lengths"]) > frames
        count = int(too_long.sum())
        if count and not self.warned:
            self.warned = True
            logger.warning(
                f"{count} of {too_long.numel()} utterances of a batch have more letters than CTC frames and give no "
                f"gradient (rows {sample['id'][too_long].tolist()[:10]} of the manifest, counted from 0). "
                "`model.upsample=2` doubles the frames; `too_long_targets` in the log counts them from here on."
            )
        return count

    def _count_errors(self, log_probs, frames, sample) -> ErrorCounts:
        rows = zip(sample["target"], sample["target_lengths"])
        references = [self.letters.text(row[:length]) for row, length in rows]
        hypotheses = [self.letters.text(nbest[0].tokens) for nbest in self.decoder(log_probs, frames)]
        if self.on_decoded is not None:
            self.on_decoded(sample["id"].tolist(), references, hypotheses)
        return count_errors(references, hypotheses)


def error_rates(sums: Dict[str, float]) -> Dict[str, float]:
    """`wer` and `cer` in per cent, of all batches of an interval together; nothing of sums that come from training."""
    if "num_words" not in sums:
        return {}
    return {
        "wer": rate(float(sums["word_errors"]), float(sums["num_words"])),
        "cer": rate(float(sums["letter_errors"]), float(sums["num_letters"])),
    }
