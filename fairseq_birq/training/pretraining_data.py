"""Datasets of pre-training from a task's settings: one folder of manifests, shards that take turns, or a mixture of corpora."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from fairseq_birq.data.dataset import IDS_PER_PART, AudioDataset
from fairseq_birq.data.frame_labels import LabelFolders, LabelStore
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.data.mixture import MixtureDataset
from fairseq_birq.errors import UserError


@dataclass
class FrameLabels:
    """Labels of an earlier model for `label_file` targets: their folders, and the source that wants them."""

    source: Any
    folders: LabelFolders

    def open(self, manifest, sample_rate: int, **where) -> LabelStore:
        store = self.folders.open(manifest=manifest, sample_rate=sample_rate, **where)
        self.source.opened(store.info)
        return store


def find_frame_labels(cfg, targets, is_needed: bool = True) -> Optional[FrameLabels]:
    """Those of a model's frames and codes; None where no source wants any, or none are named and none are needed.

    cfg: a `PretrainingTaskConfig`; targets: the model's

    Raises:
        UserError: no setting names them.
    """
    source = next((source for source in targets.values() if source.needs_label_files), None)
    if source is None:
        return None
    path = cfg.frame_labels or source.path
    if path is None:
        if not is_needed:
            return None
        raise UserError(
            f"`task.frame_labels` is not set, nor `model.targets.{source.name}.path`: name the folder of the labels "
            "that birq-labels made"
        )
    codes = dict(num_codebooks=source.num_codebooks, codebook_size=source.codebook_size)
    return FrameLabels(source, LabelFolders(path, **vars(source.grid), **codes))


def require_data_folder(cfg) -> None:
    """Raises UserError where `task.data` is not there, or is both a mixture and shards."""
    folders = cfg.data.split(os.pathsep)
    if cfg.corpora and len(folders) > 1:
        raise UserError("`task.corpora` mixes the corpora of one folder, but `task.data` names several; use one of the two")
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"task.data={folder}: no such folder; make it with `birq-manifest FOLDER {folder}`")


@dataclass
class PretrainingData:
    """Opens splits.

    cfg: a `PretrainingTaskConfig`
    sample_rate: Hz
    """

    cfg: Any
    sample_rate: int
    labels: Optional[FrameLabels] = None
    audio_class: type = AudioDataset
    mixture_class: type = MixtureDataset

    @property
    def num_shards(self) -> int:
        return 1 if self.cfg.corpora else len(self.cfg.data.split(os.pathsep))

    def open(self, split: str, epoch: int = 1, is_training: bool = False):
        """With shards, epoch e has shard e - 1 modulo their number; only training has speeds and a mixture's shares."""
        speeds = self.cfg.speeds if is_training else [1.0]
        if self.cfg.corpora:
            return self._open_mixture(split, self.cfg.sampling_alpha if is_training else None, speeds)
        folders = self.cfg.data.split(os.pathsep)
        shard = (epoch - 1) % len(folders)
        labels = {"split": split, "shard": shard, "num_shards": len(folders)}
        dataset = self._open(Path(folders[shard]), split, labels, speeds, first_id=shard * IDS_PER_PART)
        if is_training and self.labels is not None:
            self.labels.folders.look_at_shards(split)
        return dataset

    def _open_mixture(self, split, alpha, speeds):
        corpora = {
            name: self._open(Path(self.cfg.data) / folder, split, {"split": f"{name}/{split}"}, speeds)
            for name, folder in sorted(self.cfg.corpora.items())
        }
        return self.mixture_class(corpora, alpha, self.cfg.crop_seed)

    def _open(self, folder, split, labels, speeds, first_id=0):
        cfg, manifest = self.cfg, read_manifest(folder.absolute() / f"{split}.tsv")
        return self.audio_class(
            manifest,
            sample_rate=self.sample_rate,
            max_samples=None if cfg.max_seconds is None else int(cfg.max_seconds * self.sample_rate),
            min_samples=int(cfg.min_seconds * self.sample_rate),
            on_bad_audio=str(cfg.on_bad_audio),
            bad_audio_budget=cfg.bad_audio_budget,
            seed=cfg.crop_seed,
            frame_labels=None if self.labels is None else self.labels.open(manifest, self.sample_rate, **labels),
            crop_step=cfg.crop_step_samples,
            first_id=first_id,
            speeds=speeds,
        )
