"""Settings of both recipes: fairseq2's sections, and ours under the names that they have in fairseq.

task        which speech and letters, as `task` of the recipes for fairseq
dataset     its splits and batches
criterion   as `criterion` there
model       family `birq_ctc`; `model.config_overrides` are the settings `model` there
decoder     of the evaluation alone
"""

from dataclasses import dataclass, field
from typing import Optional

from fairseq2.recipe.config import (
    TRI_STAGE_LR,
    CommonSection,
    EvaluatorSection,
    GangSection,
    LRSchedulerSection,
    MixedPrecisionConfig,
    ModelSection,
    OptimizerSection,
    ReferenceModelSection,
    RegimeSection,
    TrainerSection,
    TriStageLRConfig,
)

from fairseq_birq.config import AsrTaskConfig, BirqCtcCriterionConfig
from fairseq_birq.fairseq2.ctc_family import CTC_FAMILY
from fairseq_birq.fairseq2.optim import BirqAdamWConfig
from fairseq_birq.fairseq2.pretrain.config import DatasetSection
from fairseq_birq.settings import assembled, fields_of, nested, setting

OF_FAIRSEQ_ALONE = ("resume", "max_bad_updates")
OF_DECODING = ("decoder", "lexicon", "kenlm", "word_score", "sil_weight", "beam_size_token", "beam_threshold")

TaskSection = assembled(
    "TaskSection",
    __name__,
    [part for part in fields_of(AsrTaskConfig) if part[0] not in OF_FAIRSEQ_ALONE + OF_DECODING],
    "Which transcribed speech: settings of fairseq's task `birq_asr` that are neither of its trainer nor of decoding.",
)


@dataclass
class EvalDatasetSection:
    subset: str = setting("test", "split to evaluate: <task.data>/<split>.tsv")
    max_tokens: int = setting(1600000, "most samples of a padded batch; a longer utterance is a batch by itself")
    num_workers: int = setting(1, "processes that read audio")


@dataclass
class DecoderSection:
    name: str = setting("auto", "best letter per frame, or words of a lexicon; auto: lexicon where one is given")
    lexicon: Optional[str] = setting(None, "lines of word<TAB>l e t t e r s |")
    kenlm: Optional[str] = setting(None, "n-gram model over words, .arpa or KenLM's binary")
    lm_weight: float = setting(0.0, "weight of the language model")
    word_score: float = setting(0.0, "added per word")
    sil_weight: float = setting(0.0, "added per frame of the word boundary")
    beam: int = setting(50, "hypotheses kept per frame")
    beam_size_token: int = setting(0, "letters tried per frame, best first; 0 = all")
    beam_threshold: float = setting(50.0, "hypotheses this far behind the best one are dropped")


@dataclass
class AsrConfig:
    """Recipe `fairseq_birq.fairseq2.asr`."""

    model: ModelSection = field(default_factory=lambda: ModelSection(family=CTC_FAMILY))
    task: TaskSection = nested(TaskSection)  # type: ignore[valid-type]
    dataset: DatasetSection = nested(DatasetSection)
    criterion: BirqCtcCriterionConfig = nested(BirqCtcCriterionConfig)
    gang: GangSection = field(default_factory=GangSection)
    trainer: TrainerSection = field(
        default_factory=lambda: TrainerSection(mixed_precision=MixedPrecisionConfig(mode="off"), max_grad_norm=5.0)
    )
    optimizer: OptimizerSection = field(
        default_factory=lambda: OptimizerSection(name="birq_adamw", config=BirqAdamWConfig(weight_decay=0.01))
    )
    lr_scheduler: LRSchedulerSection = field(
        default_factory=lambda: LRSchedulerSection(
            name=TRI_STAGE_LR, config=TriStageLRConfig(stage_ratio=(0.1, 0.4, 0.5), final_lr_scale=0.05)
        )
    )
    regime: RegimeSection = field(default_factory=lambda: RegimeSection(num_steps=2000, score_metric="wer"))
    common: CommonSection = field(default_factory=lambda: CommonSection(seed=1, no_sweep_dir=True))


@dataclass
class AsrEvalConfig:
    """Recipe `fairseq_birq.fairseq2.asr.eval`."""

    model: ReferenceModelSection = field(default_factory=lambda: ReferenceModelSection(family=CTC_FAMILY))
    task: TaskSection = nested(TaskSection)  # type: ignore[valid-type]
    dataset: EvalDatasetSection = nested(EvalDatasetSection)
    decoder: DecoderSection = nested(DecoderSection)
    gang: GangSection = field(default_factory=GangSection)
    evaluator: EvaluatorSection = field(default_factory=EvaluatorSection)
    common: CommonSection = field(default_factory=lambda: CommonSection(seed=1, no_sweep_dir=True))
