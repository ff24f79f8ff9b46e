"""Door: task `birq_pretraining`. Turns a manifest into a dataset of waveforms; knows of the model only whose labels it reads."""

import logging
import os
from pathlib import Path
from typing import Optional

from fairseq.logging import metrics
from fairseq.tasks import register_task

from fairseq_birq.config import PretrainingTaskConfig
from fairseq_birq.data.dataset import IDS_PER_PART
from fairseq_birq.data.frame_labels import LabelFolders, LabelStore
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.doors.audio_task import AudioTask
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.doors.datasets import FairseqAudioDataset, FairseqMixtureDataset
from fairseq_birq.doors.stages import begin_update, check_same_stages
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.tools.probes.while_training import TrainingProbe

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
    label_source, label_folders = None, None
    probe, probed_at, probe_found = None, None, {}

    def build_model(self, cfg, from_checkpoint=False):
        """As in fairseq, which lists the data folder next, unless a checkpoint is being loaded.

        Not decorated: fairseq looks for the argument `from_checkpoint` by its name.
        """
        if not from_checkpoint:
            self._require_data_folder()
            self.probe = self._build_probe()
        model = super().build_model(cfg, from_checkpoint)
        self.label_source = next((source for source in model.targets.values() if source.needs_label_files), None)
        self.label_folders = self._find_labels(from_checkpoint)
        return model

    @reports_user_errors
    def load_dataset(self, split, combine=False, task_cfg=None, epoch=1, **kwargs):
        """With shards, epoch e has shard e - 1 modulo their number; validation is that of the first one, as in fairseq."""
        cfg = task_cfg or self.cfg
        is_training = "data_selector" in kwargs  # what fairseq says of training data alone
        if cfg.corpora:
            self.datasets[split] = self._open_mixture(cfg, split, cfg.sampling_alpha if is_training else None)
        else:
            folders = cfg.data.split(os.pathsep)
            shard = (epoch - 1) % len(folders)
            labels = {"split": split, "shard": shard, "num_shards": len(folders)}
            self.datasets[split] = self._open(cfg, Path(folders[shard]), split, labels, first_id=shard * IDS_PER_PART)
            if is_training and self.label_folders is not None:
                self.label_folders.look_at_shards(split)

    def _open_mixture(self, cfg, split, alpha):
        corpora = {
            name: self._open(cfg, Path(cfg.data) / folder, split, {"split": f"{name}/{split}"})
            for name, folder in sorted(cfg.corpora.items())
        }
        return FairseqMixtureDataset(corpora, alpha, cfg.crop_seed)

    def _open(self, cfg, folder, split, labels, first_id=0):
        manifest = read_manifest(folder.absolute() / f"{split}.tsv")
        return FairseqAudioDataset(
            manifest,
            sample_rate=self.sample_rate,
            max_samples=None if cfg.max_seconds is None else int(cfg.max_seconds * self.sample_rate),
            min_samples=int(cfg.min_seconds * self.sample_rate),
            on_bad_audio=str(cfg.on_bad_audio),
            bad_audio_budget=cfg.bad_audio_budget,
            seed=cfg.crop_seed,
            frame_labels=None if self.label_folders is None else self._open_labels(manifest, **labels),
            crop_step=cfg.crop_step_samples,
            first_id=first_id,
        )

    def check_trainer(self, trainer):
        super().check_trainer(trainer)
        check_same_stages(trainer.get_model(), trainer.lr_scheduler)
        if max(trainer.cfg.optimization.update_freq) > 1:
            _say_what_update_freq_changes(trainer.get_model().targets)

    @reports_user_errors
    def _find_labels(self, from_checkpoint) -> Optional[LabelFolders]:
        """Of the model's frames and codes. Raises UserError where no setting names them."""
        source = self.label_source
        path = None if source is None else self.cfg.frame_labels or source.path
        if path is None:
            if source is not None and not from_checkpoint:
                raise UserError(
                    f"`task.frame_labels` is not set, nor `model.targets.{source.name}.path`: name the folder of the labels "
                    "that birq-labels made"
                )
            return None
        codes = dict(num_codebooks=source.num_codebooks, codebook_size=source.codebook_size)
        return LabelFolders(path, **vars(source.grid), **codes)

    def _open_labels(self, manifest, **where) -> LabelStore:
        store = self.label_folders.open(manifest=manifest, sample_rate=self.sample_rate, **where)
        self.label_source.opened(store.info)
        return store

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

    @reports_user_errors
    def _require_data_folder(self):
        folders = self.cfg.data.split(os.pathsep)
        if self.cfg.corpora and len(folders) > 1:
            raise UserError("`task.corpora` mixes the corpora of one folder, but `task.data` names several; use one of the two")
        for folder in folders:
            if not Path(folder).is_dir():
                raise UserError(f"task.data={folder}: no such folder; make it with `birq-manifest FOLDER {folder}`")
