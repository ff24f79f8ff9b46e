"""Door: task `birq_pretraining`. Turns a manifest into a dataset of waveforms; knows of the model only whose labels it reads."""

import logging
from pathlib import Path

from fairseq.logging import metrics
from fairseq.tasks import register_task

from fairseq_birq.config import PretrainingTaskConfig
from fairseq_birq.doors.audio_task import AudioTask
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.doors.datasets import FairseqAudioDataset, FairseqMixtureDataset
from fairseq_birq.doors.stages import begin_update, check_same_stages
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.tools.probes.while_training import TrainingProbe
from fairseq_birq.training.pretraining_data import PretrainingData, find_frame_labels, require_data_folder

logger = logging.getLogger(__name__)


def _say_what_update_freq_changes(targets) -> None:
    parts = [f"{part} (`{name}`)" for name, source in targets.items() for part in source.of_each_batch]
    if parts:
        logger.warning(
            f"`optimization.update_freq` makes one update of several batches, but {' and '.join(parts)} are of each batch: it is "
            "not quite one large batch. More processes are"
        )


@register_task("birq_pretraining", dataclass=as_fairseq(PretrainingTaskConfig))
class PretrainingTask(AudioTask):
    """Waveforms of `<data>/<split>.tsv`, of shards of it or of several corpora.

    With labels of their frames where the model's targets are `label_file`: a corpus' are in `<path>/<corpus>/<split>`.
    """

    model_name = "birq"
    other_model_hint = ", a pre-training model; fine-tuned ones belong to task birq_asr"
    labels = None
    probe, probed_at, probe_found = None, None, {}

    def build_model(self, cfg, from_checkpoint=False):
        """As in fairseq, which lists the data folder next, unless a checkpoint is being loaded.

        Not decorated: fairseq looks for the argument `from_checkpoint` by its name.
        """
        if not from_checkpoint:
            reports_user_errors(require_data_folder)(self.cfg)
            self.probe = self._build_probe()
        model = super().build_model(cfg, from_checkpoint)
        self.labels = reports_user_errors(find_frame_labels)(self.cfg, model.targets, is_needed=not from_checkpoint)
        return model

    @reports_user_errors
    def load_dataset(self, split, combine=False, task_cfg=None, epoch=1, **kwargs):
        """With shards, epoch e has shard e - 1 modulo their number; validation is that of the first one, as in fairseq."""
        data = PretrainingData(task_cfg or self.cfg, self.sample_rate, self.labels, FairseqAudioDataset, FairseqMixtureDataset)
        is_training = "data_selector" in kwargs  # what fairseq says of training data alone
        self.datasets[split] = data.open(split, epoch, is_training)

    def check_trainer(self, trainer):
        super().check_trainer(trainer)
        check_same_stages(trainer.get_model(), trainer.lr_scheduler)
        if max(trainer.cfg.optimization.update_freq) > 1:
            _say_what_update_freq_changes(trainer.get_model().targets)

    @reports_user_errors
    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False, **kwargs):
        """As in fairseq; first a stage begins, if one does."""
        if not sample.get("user_error"):
            begin_update(model, optimizer, update_num)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs)

    @reports_user_errors
    def begin_valid_epoch(self, epoch, model):
        """Called before every validation; the probe runs where `probe_every` updates have passed since the last time."""
        super().begin_valid_epoch(epoch, model)
        if self.probe is not None and (self.probed_at is None or model.num_updates - self.probed_at >= self.cfg.probe_every):
            self.probed_at, self.probe_found = model.num_updates, self.probe(model.speech_encoder)

    @reports_user_errors
    def reduce_metrics(self, logging_outputs, criterion):
        """As in fairseq; in validation also what the last probe found, so that `best_checkpoint_metric` can be `probe_phone`."""
        super().reduce_metrics(logging_outputs, criterion)
        if criterion.training and not self.run.skips_update:
            criterion.watch_collapse(logging_outputs)
            return
        for name, value in self.probe_found.items():
            metrics.log_scalar(f"probe_{name}", value, 1, round=2)

    @reports_user_errors
    def _build_probe(self):
        cfg = self.cfg
        if cfg.probe_every <= 0:
            return None
        if cfg.probe_alignment is None:
            raise UserError("`task.probe_every` is set, so `task.probe_alignment` must name an alignment (.phn) beside a .tsv")
        alignment = Path(cfg.probe_alignment)
        manifest = alignment.with_name(f"{alignment.name.split('.')[0]}.tsv")
        return TrainingProbe(manifest, alignment, cfg.probe_utterances, cfg.probe_iterations)
