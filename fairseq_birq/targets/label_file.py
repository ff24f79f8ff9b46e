"""Targets from files: labels that an earlier model gave to the whole corpus (`birq-labels`)."""

import os
from pathlib import Path
from typing import Optional

from torch import Tensor

from fairseq_birq.data.frame_labels import FrameGrid, LabelStore, read_info
from fairseq_birq.data.manifest import Manifest
from fairseq_birq.errors import UserError
from fairseq_birq.targets.base import TargetInputs, TargetSource


class LabelFileTargets(TargetSource):
    """Hard codes that come with the batch: staged relabelling as in HuBERT (Hsu et al. 2021, arXiv 2106.07447).

    The dataset reads them, cut to the same place of the utterance as the audio; the task asks here for the files.

    Args:
        path: holds one folder of labels per split, by the split's name; with sharded data as many such paths as the data
            has, separated in the same way.
        grid: encoder frames of the model, which the labels must have too.
        num_codebooks: N.
        codebook_size: V.
    """

    name = "label_file"

    def __init__(self, path, grid: FrameGrid, num_codebooks: int, codebook_size: int):
        super().__init__()
        self.paths = [Path(one) for one in str(path).split(os.pathsep)]
        self.grid = grid
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self.labels_fingerprint: Optional[str] = None  # of the labels that were opened
        self.resumed: Optional[dict] = None  # the state of the run that goes on

    def open(self, split: str, manifest: Manifest, sample_rate: int, shard: int = 0, num_shards: int = 1) -> LabelStore:
        """The labels of a split of the corpus.

        sample_rate: Hz, of the audio that the model is given
        shard, num_shards: which of the data's folders the manifest is in, and how many there are

        Raises:
            UserError: they are missing, do not fit, or were made otherwise than those of another split.
        """
        if len(self.paths) != num_shards:
            raise UserError(
                f"`model.targets.label_file.path` names {len(self.paths)} folders, but `task.data` {num_shards}; it must name "
                f"the labels of each of them, separated by `{os.pathsep}`"
            )
        store = LabelStore(self.paths[shard] / split)
        store.check_manifest(manifest)
        store.check(sample_rate=sample_rate)
        store.check(**vars(self.grid), num_codebooks=self.num_codebooks, codebook_size=self.codebook_size)
        self._take_codes_of(store.folder, store.info)
        if self.resumed is not None:
            super().set_extra_state(self.resumed)
        return store

    def look_at_shards(self, split: str) -> None:
        """All shards' labels of a split, long before their epochs come.

        Raises:
            UserError: some are missing, or made otherwise than the others.
        """
        for path in self.paths:
            self._take_codes_of(path / split, read_info(path / split))

    def _take_codes_of(self, folder, info) -> None:
        if self.labels_fingerprint not in (None, info.codes_fingerprint):
            raise UserError(
                f"{folder}: its labels come from another checkpoint or quantizer than those of the other splits in "
                f"{self.paths[0]}; make them again with `birq-labels ... --like {self.paths[0]}/SPLIT`"
            )
        self.labels_fingerprint = info.codes_fingerprint

    def fingerprint(self) -> Optional[str]:
        return self.labels_fingerprint

    def set_extra_state(self, state):
        """Labels that are not open yet are compared when they are; outside training they never are."""
        self.resumed = state
        if self.labels_fingerprint is not None:
            super().set_extra_state(state)

    def forward(self, inputs: TargetInputs) -> Tensor:
        """Raises UserError for a batch without labels."""
        if inputs.codes is None:
            raise UserError("`label_file` targets need batches with labels, which task `birq_pretraining` makes")
        return inputs.gather(inputs.codes)
