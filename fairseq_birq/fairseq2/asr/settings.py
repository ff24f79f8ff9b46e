"""A run's model settings, complete: with the dictionary's letters, and the encoder of the pre-trained checkpoint.

fairseq2 writes the settings into `model.yaml` before it asks a recipe for anything, and builds the model of them.
"""

from dataclasses import replace
from pathlib import Path

from fairseq2.models import ModelFamily

from fairseq_birq.checkpoint import load_checkpoint, settings_and_weights
from fairseq_birq.config import BirqConfig
from fairseq_birq.ctc import resolve_pretrained, with_encoder_of
from fairseq_birq.decoding.alphabet import Alphabet
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2.ctc_family import CTC_FAMILY, CtcConfig
from fairseq_birq.fairseq2_files import OF_TASK, checkpoint_folder, step_files
from fairseq_birq.settings import merged, to_dict

_KEY = "model.config_overrides"


def complete_settings(section, letters: Alphabet, resolver):
    """Fill in `model.config_overrides`; gives the weights of the speech encoder to start from, or None.

    section: fairseq2's `ModelSection`
    letters: of the training data

    Raises:
        UserError: a setting is unknown or wrong, a checkpoint is unreadable, or a model to go on with has other letters.
    """
    if section.family not in (None, CTC_FAMILY):
        raise UserError(f"`model.family` must be {CTC_FAMILY}, but is {section.family}: this recipe trains letters")
    if section.path is not None:
        take_checkpoint(section, letters)
        return None
    if section.name is not None:
        return None
    family = resolver.resolve(ModelFamily, key=CTC_FAMILY)
    config = CtcConfig() if section.arch is None else family.maybe_get_arch_config(section.arch)
    if config is None:
        raise UserError(f"`model.arch` must be one of {', '.join(sorted(family.get_archs()))}, but is {section.arch}")
    of_task = {"symbols": letters.symbols, "unit_scores": letters.unit_scores or []}
    config = merged(config, {**(section.config_overrides or {}), **of_task}, _KEY)
    config, encoder_state = resolve_pretrained(config)
    section.config_overrides = to_dict(config)
    return encoder_state


def take_checkpoint(section, letters=None) -> None:
    """Make `model.path`, a fine-tuned checkpoint of either side, one that fairseq2 loads, with its own settings and letters.

    section: fairseq2's `ModelSection` or `ReferenceModelSection`
    letters: that it must have; None: any

    Raises:
        UserError: it is unreadable, pre-trained only, or of other letters.
    """
    path = Path(section.path)
    content = load_checkpoint(path)
    config, _ = settings_and_weights(content, path)
    if isinstance(config, BirqConfig):
        raise UserError(
            f"checkpoint {path} is of a pre-trained model, which knows no letters: fine-tune it first, with "
            f"{_KEY}.pretrained_path (docs/fairseq2.md)"
        )
    stored = content.get("task_state") or {}
    symbols, of_task = stored.get("symbols"), {key: list(stored[key]) for key in OF_TASK if stored.get(key)}
    if not symbols:
        raise UserError(f"checkpoint {path} holds no letters: it was trained before checkpoints held them")
    if letters is not None and list(symbols) != letters.symbols:
        raise UserError(
            f"checkpoint {path} was trained with other letters than the dictionary of `task.data`; copy the dictionary of its "
            f"training data there. Its letters are: {' '.join(symbols[4:])}"
        )
    wanted = CtcConfig(**vars(config), **of_task)
    if section.config_overrides:  # of training; what decides the shapes is the checkpoint's
        changed = merged(CtcConfig(), {**section.config_overrides, **of_task}, _KEY)
        wanted = replace(with_encoder_of(config, changed), upsample=config.upsample, pretrained_path=None)
    section.config_overrides = to_dict(wanted)
    run = checkpoint_folder(path)
    section.path = path if run is None else step_files(path, run)[0] / "model"
