"""Targets from files: labels that an earlier model gave to the whole corpus (`birq-labels`)."""

from dataclasses import dataclass
from typing import Optional

from torch import Tensor

from fairseq_birq.data.frame_labels import FrameGrid, LabelInfo
from fairseq_birq.errors import UserError
from fairseq_birq.settings import setting
from fairseq_birq.targets.base import TargetContext, TargetInputs, TargetSource


@dataclass
class LabelFileConfig:
    """Hard codes that an earlier model gave to the whole corpus; V and N are the quantizer's."""

    path: Optional[str] = setting(
        None, "where `task.frame_labels` is not set: folder with one folder of labels per split, by the split's name"
    )


class LabelFileTargets(TargetSource):
    """Hard codes that come with the batch: staged relabelling as in HuBERT (Hsu et al. 2021, arXiv 2106.07447).

    The task opens the files, and the dataset reads them, cut to the same place of the utterance as the audio.

    Args:
        grid: encoder frames of the model, which the labels must have too.
        num_codebooks: N.
        codebook_size: V.
        path: where the labels are, unless the task knows better.
    """

    name, Config = "label_file", LabelFileConfig
    is_fixed = needs_label_files = True

    def __init__(self, grid: FrameGrid, num_codebooks: int, codebook_size: int, path: Optional[str] = None):
        super().__init__()
        self.grid, self.path = grid, path
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self.labels_fingerprint: Optional[str] = None  # of the labels that were opened
        self.resumed: Optional[dict] = None  # the state of the run that goes on

    @classmethod
    def build(cls, cfg: LabelFileConfig, context: TargetContext) -> "LabelFileTargets":
        quantizer = context.cfg.quantizer
        return cls(FrameGrid.of(context.frontend), quantizer.num_codebooks, quantizer.codebook_size, cfg.path)

    def opened(self, info: LabelInfo) -> None:
        """Labels were opened: the run goes on with those that it began with, or not at all.

        Raises:
            UserError: they are others.
        """
        self.labels_fingerprint = info.codes_fingerprint
        if self.resumed is not None:
            super().set_extra_state(self.resumed)

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
