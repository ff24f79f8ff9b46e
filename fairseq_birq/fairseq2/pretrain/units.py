"""What fairseq2's trainer and validator do with a batch of pre-training."""

from typing import Optional

from fairseq2.evaluator import EvalUnit
from fairseq2.gang import Gang, ReduceOperation, all_sum
from fairseq2.metrics import MetricBag
from fairseq2.trainer import TrainUnit

from fairseq_birq.config import BirqCriterionConfig
from fairseq_birq.data.dataset import raise_user_error
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2.batches import Batch
from fairseq_birq.fairseq2.sums import Sums
from fairseq_birq.objective.code_health import Churn, CollapseAlarm
from fairseq_birq.training import code_curves, disturbance_curves, step
from fairseq_birq.training.stages import begin_stages

NO_TARGETS = 1e-9  # what a process without masked frames adds to their number: nothing, in float32


class Pretraining:
    """What both units share: a forward pass, and the sums and curves that are logged of it.

    model: a `BirqModel`
    parallel_model: the same, wrapped for data-parallel training or not
    """

    def __init__(self, model, parallel_model, gang: Gang, cfg: BirqCriterionConfig):
        self.model, self.parallel_model, self.gang, self.cfg = model, parallel_model, gang, cfg
        self.weights = step.SourceWeights(cfg.weights, cfg.warmup_updates, cfg.start_updates)

    def weights_now(self) -> dict:
        return self.weights.at(list(self.model.targets), self.model.num_updates)

    def output(self, batch: Batch, weights: dict):
        """A `PretrainingOutput`. All processes stop where one has too much bad audio, with its UserError."""
        stop_together(batch.content, self.gang)
        return self.parallel_model(**step.inputs_of(batch.content), weights=weights)


class PretrainUnit(TrainUnit[Batch]):
    """`w1 F + w2 G`, summed over masked frames, whose number fairseq2 divides by, over all processes and batches of an update.

    Before every update the targets follow the encoder, and a stage of Latent-RQ begins where one does.
    """

    def __init__(self, shared: Pretraining, optimizer):
        self._shared, self._optimizer = shared, optimizer
        cfg = shared.cfg
        self._alarm = CollapseAlarm(cfg.collapse_min_perplexity, cfg.collapse_patience, stop=cfg.collapse_action == "stop")
        self._histograms: dict = {}  # of the update that is going on

    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        metric_bag.add("sums", Sums())

    def set_step_nr(self, step_nr: int) -> None:
        """step_nr: counted from 1, of the update that begins."""
        self._watch_collapse()
        begin_stages(self._shared.model, self._optimizer, step_nr - 1)
        self._shared.model.set_num_updates(step_nr - 1)

    def process_batch(self, batch: Batch, metric_bag: MetricBag):
        shared, content, weights = self._shared, batch.content, self._shared.weights_now()
        output = shared.output(batch, weights)
        sums = code_curves.sums_of_batch(output.terms, output.columns)
        every = shared.cfg.log_grad_every
        if every and shared.model.num_updates % every == 0:
            names = list(output.terms)
            sums["gradient_norm"] = step.gradient_norms(shared.model, content, weights, names, output.num_masked)
            sums["gradient_norms"] = {name: 1.0 for name in names}
        if self._alarm.is_on:
            _add(self._histograms, sums["histogram"])
        metric_bag.get("sums", Sums).update({**step.numbers_of(output, content), **step.packed(output, sums)})
        return output.loss, float(output.num_masked) or NO_TARGETS

    def process_metric_values(self, values) -> None:
        values.update(shown(values.pop("sums")))

    def _watch_collapse(self) -> None:
        """Raises UserError in all processes where codes collapsed in the last update, and `collapse_action` is "stop"."""
        histograms, self._histograms = self._histograms, {}
        for histogram in histograms.values():
            self._shared.gang.all_reduce(histogram, ReduceOperation.SUM)
        self._alarm.watch({name: histogram.cpu() for name, histogram in histograms.items()})


class PretrainEvalUnit(EvalUnit[Batch]):
    """The same on held-out speech, with the same masks every time, and how many codes changed since the last time."""

    def __init__(self, shared: Pretraining):
        self._shared, self._churn, self._num_updates = shared, Churn(), 0

    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        metric_bag.add("sums", Sums())

    def set_train_step_nr(self, step_nr: int) -> None:
        """step_nr: the updates that the model has had. Targets follow when training goes on."""
        self._num_updates = step_nr

    def process_batch(self, batch: Batch, metric_bag: MetricBag) -> None:
        shared = self._shared
        output = shared.output(batch, shared.weights.at(list(shared.model.targets), self._num_updates))
        sums = code_curves.sums_of_batch(output.terms, output.columns)
        sums.update(step.churn_of(self._churn, batch.content, output))
        metric_bag.get("sums", Sums).update({**step.numbers_of(output, batch.content), **step.packed(output, sums)})

    def process_metric_values(self, values) -> None:
        values.update(shown(values.pop("sums")))


def shown(sums: dict) -> dict:
    """What is logged of the sums over an interval and all processes."""
    frames, code_sums = max(float(sums["sample_size"]), 1.0), code_curves.unpack(sums)
    norms, counts = code_sums.pop("gradient_norm", {}), code_sums.pop("gradient_norms", {})
    values = {f"gradient_norm_{name}": float(norm / counts[name]) for name, norm in norms.items()}  # not of every update
    values.update({name: value for name, value, _ in step.curves(sums)})
    values.update({name: value for name, value, _ in code_curves.curves(code_sums, frames, float(sums["num_outputs"]))})
    values.update(code_curves.curves_of_histograms(code_sums))
    values.update({name: value for name, value, *_ in disturbance_curves.curves(sums)})
    values.update(num_examples=int(sums["nsentences"]), bad_audio=int(sums["bad_audio"]))
    return {**values, "audio_seconds": float(sums["audio_seconds"])}


def stop_together(content: dict, gang: Gang) -> None:
    """Raises UserError in every process, where the batch of one carries an error; the others name no file."""
    if gang.size == 1:
        return raise_user_error(content)
    error: Optional[str] = content.get("user_error")
    if float(all_sum(gang, float(bool(error)))):
        raise UserError(error or "stopped, with all other processes: one of them met the error that its log names")


def _add(histograms: dict, more: dict) -> None:
    for name, histogram in more.items():
        if "." not in name:  # a source's; what has a dot is a group of its columns
            histograms[name] = histograms[name] + histogram if name in histograms else histogram.clone()
