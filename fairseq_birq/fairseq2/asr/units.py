"""What fairseq2's trainer and evaluator do with a batch: loss, sums over batches and processes, and error rates."""

from typing import Optional, TextIO

from fairseq2.evaluator import EvalUnit
from fairseq2.trainer import TrainUnit

from fairseq_birq.fairseq2.batches import Batch
from fairseq_birq.fairseq2.pretrain.units import NO_TARGETS, stop_together
from fairseq_birq.fairseq2.sums import Sums
from fairseq_birq.training import disturbance_curves
from fairseq_birq.training.ctc_step import CtcStep, error_rates

_SUMS = "sums"


class CtcTrainUnit(TrainUnit[Batch]):
    """One update of fine-tuning.

    Args:
        model: what fairseq2 made of `base_model` for several processes, or that itself.
        base_model: a `Fairseq2CtcModel`.
        letters: an `Alphabet`.
        gang: of the data-parallel processes.
    """

    def __init__(self, model, base_model, letters, gang, sentence_avg: bool = False):
        self._model, self._gang = model, gang
        self._base_model = base_model
        self._step = CtcStep(letters, sentence_avg)

    def prepare_metric_bag(self, metric_bag) -> None:
        metric_bag.add(_SUMS, Sums())

    def set_step_nr(self, step_nr: int) -> None:
        """fairseq2 counts from 1. Masks and the frozen beginning go by the updates that are done, as with fairseq."""
        self._base_model.set_num_updates(step_nr - 1)

    def process_batch(self, batch: Batch, metric_bag):
        """Summed loss, and letters or utterances, by which fairseq2 divides the gradient of all processes."""
        stop_together(batch.content, self._gang)
        loss, sums = self._step(self._model, batch.content)
        metric_bag.get(_SUMS, Sums).update(sums)
        return loss, sums["sample_size"] or NO_TARGETS

    def process_metric_values(self, values) -> None:
        values.update(curves(values.pop(_SUMS)))


class CtcEvalUnit(EvalUnit[Batch]):
    """Validation and evaluation.

    Args:
        decoder: as `CtcStep` has it.
        transcriptions: where a line per utterance is written: row of the manifest, transcript, what was heard.
    """

    def __init__(self, model, letters, gang, decoder=None, transcriptions: Optional[TextIO] = None):
        self._model, self._gang = model, gang
        self._step = CtcStep(letters, decoder=decoder, on_decoded=self._write)
        self._transcriptions = transcriptions

    def prepare_metric_bag(self, metric_bag) -> None:
        metric_bag.add(_SUMS, Sums())

    def process_batch(self, batch: Batch, metric_bag) -> None:
        stop_together(batch.content, self._gang)
        _, sums = self._step(self._model, batch.content)
        metric_bag.get(_SUMS, Sums).update(sums)

    def process_metric_values(self, values) -> None:
        values.update(curves(values.pop(_SUMS)))

    def finalize(self, metric_bag) -> None:
        if self._transcriptions is not None:
            self._transcriptions.close()

    def _write(self, ids, transcripts, heard) -> None:
        if self._transcriptions is not None:
            self._transcriptions.writelines(f"{row}\t{said}\t{what}\n" for row, said, what in zip(ids, transcripts, heard))


def curves(sums: dict) -> dict:
    """What a log shows of the sums of an interval. Nats per letter or utterance, as fairseq's side logs them."""
    found = {key: float(value) for key, value in sums.items()}
    shown = {
        "ctc_loss": found["loss"] / max(found["sample_size"], 1.0),
        "too_long_targets": int(found["too_long_targets"]),
        "bad_audio": int(found["bad_audio"]),
        "num_examples": int(found["nsentences"]),
        "num_target_elements": int(found["ntokens"]),
    }
    shown.update({name: value for name, value, *_ in disturbance_curves.curves(found)})
    return {**shown, **error_rates(found)}
