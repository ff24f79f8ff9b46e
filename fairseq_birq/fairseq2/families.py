"""Model family `birq` and its architectures, as fairseq2 registers its own."""

from functools import partial

from fairseq2.composition import register_model_family
from fairseq2.models import ModelFamily, ModelHubAccessor
from fairseq2.models.utils.fsdp import apply_layerwise_fsdp
from fairseq2.runtime.config_registry import ConfigRegistrar

from fairseq_birq.builders import compile_encoders
from fairseq_birq.config import BirqConfig
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2 import archs
from fairseq_birq.fairseq2.converting import convert_state
from fairseq_birq.fairseq2.model import Fairseq2BirqModel, create_model

BIRQ_FAMILY = "birq"
get_birq_model_hub = ModelHubAccessor(BIRQ_FAMILY, Fairseq2BirqModel, BirqConfig)


def are_known(container) -> bool:
    return BIRQ_FAMILY in container.iter_keys(ModelFamily)


def register(container) -> None:
    register_model_family(
        container,
        BIRQ_FAMILY,
        Fairseq2BirqModel,
        BirqConfig,
        factory=create_model,
        supports_meta=False,  # projections and codebooks are drawn by numpy
        state_dict_converter=convert_state,
        compiler=compile_model,
        fsdp_applier=apply_fsdp,
        layerwise_ac_applier=apply_layerwise_ac,
    )
    named = ConfigRegistrar(container, BirqConfig)
    for name in archs.NAMES:
        named(name)(partial(archs.architecture, name))


def compile_model(model, *args, **kwargs) -> None:
    """`model.compile: true` is our `compile_layers`, with its own choice of options."""
    compile_encoders(model)


def apply_fsdp(model, granularity: str, wrapper):
    """`layer`: each layer of the trained encoder is sharded by itself; `stack` is `layer` too: the encoder is run by layers.

    Raises:
        UserError: layers are skipped, by each process others: the processes would wait for each other's parts forever.
    """
    if model.speech_encoder.encoder.layer_dropout > 0:
        raise UserError(
            "`trainer.data_parallelism: fsdp` cannot skip layers: set `model.config_overrides.encoder.layer_dropout` to 0, or "
            "take ddp"
        )
    apply_layerwise_fsdp(model.speech_encoder.encoder.layers, wrapper)
    return model


def apply_layerwise_ac(model, every_nth_layer: int):
    """`trainer.activation_checkpointing` is our `encoder.checkpoint_activations`, of all layers."""
    model.speech_encoder.encoder.checkpoint_activations = True
    return model
