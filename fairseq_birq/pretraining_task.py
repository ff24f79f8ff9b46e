"""Door: task `birq_pretraining`. Turns a manifest into a dataset of waveforms; knows nothing of the model."""

from pathlib import Path

from fairseq.tasks import register_task

from fairseq_birq.audio_task import AudioTask
from fairseq_birq.config import PretrainingTaskConfig
from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError, reports_user_errors


@register_task("birq_pretraining", dataclass=PretrainingTaskConfig)
class PretrainingTask(AudioTask):
    """Waveforms of `<data>/<split>.tsv`, without labels."""

    def build_model(self, cfg, from_checkpoint=False):
        """As in fairseq, which lists the data folder next, unless a checkpoint is being loaded.

        Not decorated: fairseq looks for the argument `from_checkpoint` by its name.
        """
        if not from_checkpoint:
            self._require_data_folder()
        return super().build_model(cfg, from_checkpoint)

    @reports_user_errors
    def load_dataset(self, split, combine=False, task_cfg=None, **kwargs):
        cfg = task_cfg or self.cfg
        self.datasets[split] = AudioDataset(
            read_manifest(Path(cfg.data).absolute() / f"{split}.tsv"),
            sample_rate=cfg.sample_rate,
            max_samples=None if cfg.max_seconds is None else int(cfg.max_seconds * cfg.sample_rate),
            min_samples=int(cfg.min_seconds * cfg.sample_rate),
            on_bad_audio=str(cfg.on_bad_audio),
            bad_audio_budget=cfg.bad_audio_budget,
            seed=cfg.crop_seed,
        )

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
