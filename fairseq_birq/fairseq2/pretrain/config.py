"""Settings of the pre-training recipe: fairseq2's sections, and ours under the names that they have in fairseq.

task        which speech, as `task` of the recipes for fairseq (`data`, `corpora`, `max_seconds`, `frame_labels`, ...)
dataset     its splits and batches
criterion   weights of the target sources, as `criterion` there
model       family `birq`; `model.config_overrides` are the settings `model` there
"""

from dataclasses import dataclass, field
from typing import Optional

from fairseq2.recipe.config import (
    CommonSection,
    GangSection,
    LRSchedulerSection,
    MixedPrecisionConfig,
    ModelSection,
    OptimizerSection,
    RegimeSection,
    TrainerSection,
)

from fairseq_birq.config import BirqCriterionConfig, PretrainingTaskConfig
from fairseq_birq.fairseq2.families import BIRQ_FAMILY
from fairseq_birq.settings import assembled, fields_of, nested, setting

OF_FAIRSEQ_ALONE = ("resume", "max_bad_updates", "probe_every", "probe_alignment", "probe_utterances", "probe_iterations")

TaskSection = assembled(
    "TaskSection",
    __name__,
    [part for part in fields_of(PretrainingTaskConfig) if part[0] not in OF_FAIRSEQ_ALONE],
    "Which speech: settings of fairseq's task `birq_pretraining` that are not of fairseq's trainer.",
)


@dataclass
class DatasetSection:
    train_subset: str = setting("train", "split to train on: <task.data>/<split>.tsv")
    valid_subset: Optional[str] = setting("valid", "split to validate on; null = none")
    max_tokens: Optional[int] = setting(None, "most samples of a padded batch")
    batch_size: Optional[int] = setting(None, "most utterances of a batch")
    num_workers: int = setting(1, "processes that read audio")


@dataclass
class PretrainConfig:
    """Recipe `fairseq_birq.fairseq2.pretrain`."""

    model: ModelSection = field(default_factory=lambda: ModelSection(family=BIRQ_FAMILY, arch="debug"))
    task: TaskSection = nested(TaskSection)  # type: ignore[valid-type]
    dataset: DatasetSection = nested(DatasetSection)
    criterion: BirqCriterionConfig = nested(BirqCriterionConfig)
    gang: GangSection = field(default_factory=GangSection)
    trainer: TrainerSection = field(
        default_factory=lambda: TrainerSection(mixed_precision=MixedPrecisionConfig(mode="off"), max_grad_norm=5.0)
    )
    # settings of the component are its own defaults, whichever a YAML names
    optimizer: OptimizerSection = field(default_factory=lambda: OptimizerSection(name="birq_adamw", config={}))
    lr_scheduler: LRSchedulerSection = field(default_factory=lambda: LRSchedulerSection(name="polynomial_decay", config={}))
    regime: RegimeSection = field(default_factory=lambda: RegimeSection(num_steps=20))
    common: CommonSection = field(default_factory=lambda: CommonSection(seed=1, no_sweep_dir=True))
