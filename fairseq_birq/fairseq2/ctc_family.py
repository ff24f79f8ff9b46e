"""Model family `birq_ctc`, which is `fairseq_birq.ctc.BirqCtcModel`, with its letters in the configuration."""

from dataclasses import dataclass
from functools import partial
from typing import List

import torch
from fairseq2.composition import register_model_family
from fairseq2.metrics.formatters import format_as_float, format_as_int
from fairseq2.metrics.recorders import MetricDescriptor
from fairseq2.models import ModelHubAccessor
from fairseq2.runtime.config_registry import ConfigRegistrar

from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.ctc import BirqCtcModel
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2 import archs
from fairseq_birq.fairseq2.converting import convert_state
from fairseq_birq.fairseq2.families import apply_fsdp, apply_layerwise_ac, compile_model
from fairseq_birq.fairseq2.state import TensorState
from fairseq_birq.fairseq2_files import OF_TASK
from fairseq_birq.settings import from_dict, setting, to_dict
from fairseq_birq.structs import CtcOutput

CTC_FAMILY = "birq_ctc"
_SHOWN = (
    ("cer", "Character Error Rate (CER)", 201, format_as_float),
    ("too_long_targets", "Transcripts Too Long", 211, format_as_int),
)


@dataclass
class CtcConfig(BirqCtcConfig):
    """Settings of model `birq_ctc`, and the symbols that it scores: what a checkpoint needs to write words."""

    symbols: List[str] = setting(list, "filled in by training: of the dictionary")
    unit_scores: List[float] = setting(list, "filled in by training: log-probabilities of subword units, for exports")


torch.export.register_dataclass(CtcOutput)  # FSDP2 looks for tensors in what a model gives, to know when its backward pass begins


class Fairseq2CtcModel(TensorState, BirqCtcModel):
    """The fine-tuning model as fairseq2 wants it; `symbols` are the letters that it writes."""

    symbols: List[str]


get_birq_ctc_model_hub = ModelHubAccessor(CTC_FAMILY, Fairseq2CtcModel, CtcConfig)


def register(container) -> None:
    register_model_family(
        container,
        CTC_FAMILY,
        Fairseq2CtcModel,
        CtcConfig,
        factory=create_ctc_model,
        supports_meta=False,
        state_dict_converter=convert_state,
        compiler=compile_model,
        fsdp_applier=apply_fsdp,
        layerwise_ac_applier=apply_layerwise_ac,
    )
    named = ConfigRegistrar(container, CtcConfig)
    for name in archs.NAMES:
        named(name)(partial(architecture, name))
    for shown in _SHOWN:
        container.collection.register_instance(MetricDescriptor, MetricDescriptor(*shown))


def architecture(name: str) -> CtcConfig:
    """The encoder of a pre-training architecture."""
    return from_dict(CtcConfig, {"encoder": archs.encoder_settings(name)})


def create_ctc_model(config: CtcConfig) -> Fairseq2CtcModel:
    """Raises UserError for settings that cannot be, and for a configuration without letters."""
    if not config.symbols:
        raise UserError("`model.config_overrides.symbols` is empty: a model that writes letters needs those of its dictionary")
    settings = {key: value for key, value in to_dict(config).items() if key not in OF_TASK}
    model = Fairseq2CtcModel.build_model(settings, len(config.symbols))
    model.symbols = list(config.symbols)
    return model
