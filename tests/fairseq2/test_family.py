"""The model family `birq`: architectures, settings, and states that are tensors alone."""

import pytest
import torch
from fairseq2.device import CPU
from fairseq2.gang import create_fake_gangs
from fairseq2.models import ModelFamily
from fairseq2.models.utils.checkpoint import set_model_state
from fairseq2.utils.progress import NOOP_PROGRESS_REPORTER
from fairseq2.utils.structured import ValueConverter

from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2 import archs
from fairseq_birq.fairseq2.families import BIRQ_FAMILY, get_birq_model_hub
from fairseq_birq.fairseq2_files import EXTRA, pack, unpack
from fairseq_birq.model import BirqModel
from fairseq_birq.settings import merged

METHODS = {
    "best_rq": {"use": ["raw_input"]},
    "birq": {"use": ["raw_input", "own_layer"], "own_layer": {"layers": [1]}},
    "latent_rq": {"use": ["snapshot"], "snapshot": {"layers": [1, 2], "target_updates": [2]}},
    "averaging": {"use": ["moving_average"], "moving_average": {"layers": [1, 2]}},
}


def settings(method):
    return merged(archs.architecture("debug"), {"targets": METHODS[method]})


def build(method):
    torch.manual_seed(0)
    return get_birq_model_hub().create_new_model(settings(method), gangs=create_fake_gangs(CPU))


def test_architectures_are_found_by_name():
    hub = get_birq_model_hub()
    assert hub.get_archs() == {"debug", "mboshi_small", "c1", "c2", "c3", "base12", "base"}
    assert hub.get_arch_config("base").encoder.num_layers == 17
    assert hub.get_arch_config("c3").encoder.attention_window == 100


def test_settings_survive_fairseq2s_conversion(resolver):
    converter, family = resolver.resolve(ValueConverter), resolver.resolve(ModelFamily, key=BIRQ_FAMILY)
    for name in family.get_archs():
        config = family.maybe_get_arch_config(name)
        assert converter.structure(converter.unstructure(config), type(config)) == config


def test_settings_that_cannot_be_are_one_sentence():
    with pytest.raises(UserError, match="`model.targets.use` is"):
        get_birq_model_hub().create_new_model(merged(archs.architecture("debug"), {"targets": {"use": ["labels"]}}))


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_the_plain_one(method):
    model = build(method)
    torch.manual_seed(0)
    plain = BirqModel.build_model(settings(method))
    state, wanted = model.state_dict(), plain.state_dict()
    assert list(state) == list(wanted) and all(isinstance(value, torch.Tensor) for value in state.values())
    for key, value in wanted.items():
        assert unpack(state[key]) == value if key.endswith(EXTRA) else torch.equal(state[key], value)


@pytest.mark.parametrize("method", METHODS)
def test_what_targets_hold_is_never_trained(method):
    model = build(method).requires_grad_(True)
    assert not any(parameter.requires_grad for parameter in model.targets.parameters())
    assert all(parameter.requires_grad for parameter in model.speech_encoder.parameters())


@pytest.mark.parametrize("through", ["load_state_dict", "set_model_state"])
def test_a_state_goes_back_whole(through):
    trained, new = build("latent_rq"), build("latent_rq")
    trained.set_num_updates(3)
    assert trained.staged.stage == 1
    if through == "load_state_dict":
        new.load_state_dict(trained.state_dict())
    else:  # how fairseq2 loads `model.path`
        set_model_state(new, trained.state_dict().items(), NOOP_PROGRESS_REPORTER)
    assert new.staged.stage == 1 and new.staged.num_updates == 3
    for key, value in trained.state_dict().items():
        assert torch.equal(new.state_dict()[key], value), key


def test_a_state_of_different_labels_is_refused():
    state = build("best_rq").state_dict()
    state[f"targets.raw_input.{EXTRA}"] = pack({"fingerprint": "0" * 64})
    with pytest.raises(UserError, match="fingerprint"):
        set_model_state(build("best_rq"), state.items(), NOOP_PROGRESS_REPORTER)


def test_packed_states_of_one_source_have_one_shape():
    assert pack({"stage": 0}).shape == pack({"stage": 12, "num_updates": 400000}).shape
    assert unpack(pack({"text": "ŋ", "number": None})) == {"text": "ŋ", "number": None}
