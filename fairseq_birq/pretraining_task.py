"""Door: task `birq_pretraining`. Turns a manifest into a dataset of waveforms; knows of the model only whose labels it reads."""

from pathlib import Path

from fairseq.tasks import register_task

from fairseq_birq.audio_task import AudioTask
from fairseq_birq.config import PretrainingTaskConfig
from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError, reports_user_errors
from fairseq_birq.schedule import begin_update


@register_task("birq_pretraining", dataclass=PretrainingTaskConfig)
class PretrainingTask(AudioTask):
    """Waveforms of `<data>/<split>.tsv`, with labels of their frames where the model's targets are `label_file`."""

    label_source = None

    def build_model(self, cfg, from_checkpoint=False):
        """As in fairseq, which lists the data folder next, unless a checkpoint is being loaded.

        Not decorated: fairseq looks for the argument `from_checkpoint` by its name.
        """
        if not from_checkpoint:
            self._require_data_folder()
        model = super().build_model(cfg, from_checkpoint)
        self.label_source = dict(model.targets.items()).get("label_file")
        return model

    @reports_user_errors
    def load_dataset(self, split, combine=False, task_cfg=None, **kwargs):
        cfg, source = task_cfg or self.cfg, self.label_source
        manifest = read_manifest(Path(cfg.data).absolute() / f"{split}.tsv")
        self.datasets[split] = AudioDataset(
            manifest,
            sample_rate=cfg.sample_rate,
            max_samples=None if cfg.max_seconds is None else int(cfg.max_seconds * cfg.sample_rate),
            min_samples=int(cfg.min_seconds * cfg.sample_rate),
            on_bad_audio=str(cfg.on_bad_audio),
            bad_audio_budget=cfg.bad_audio_budget,
            seed=cfg.crop_seed,
            frame_labels=None if source is None else source.open(split, manifest, cfg.sample_rate),
            crop_step=cfg.crop_step_samples,
        )

    @reports_user_errors
    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False, **kwargs):
        """As in fairseq; where the model begins a stage, the optimizer does too."""
        if not sample.get("user_error"):
            begin_update(model, optimizer, update_num)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs)

    @reports_user_errors
    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        if criterion.training:
            criterion.watch_collapse(logging_outputs)

    @reports_user_errors
    def _require_data_folder(self):
        data = self.cfg.data
        if not Path(data).is_dir():
            raise UserError(f"task.data={data}: no such folder; make it with `birq-manifest FOLDER {data}`")
