"""Settings from plain values, and as fairseq wants them."""

from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Dict, List, Optional

import pytest
from fairseq.dataclass import FairseqDataclass
from omegaconf import OmegaConf

from fairseq_birq import config
from fairseq_birq.config import BirqConfig, BirqCtcConfig
from fairseq_birq.doors.configs import as_fairseq
from fairseq_birq.errors import UserError
from fairseq_birq.model import BirqModel
from fairseq_birq.settings import from_dict, merged, nested, setting, to_dict, with_setting

ALL = [value for value in vars(config).values() if is_dataclass(value) and isinstance(value, type)]


@dataclass
class Inner:
    kind: str = setting("a", "which", ["a", "b"])
    size: Optional[int] = setting(None, "how much")


@dataclass
class Outer:
    inner: Inner = nested(Inner)
    rate: float = setting(0.5, "how fast")
    layers: List[int] = setting(list, "which ones")
    weights: Dict[str, float] = setting(dict, "by name")
    on: bool = setting(False, "whether")


def test_defaults_and_what_is_given():
    assert from_dict(Outer, {}) == Outer(Inner("a", None), 0.5, [], {}, False)
    given = {"inner": {"kind": "b", "size": 3}, "rate": 2, "layers": (1, 2), "weights": {"x": 1}, "on": True, "_name": "outer"}
    found = from_dict(Outer, given)
    assert found == Outer(Inner("b", 3), 2.0, [1, 2], {"x": 1.0}, True) and type(found.rate) is type(found.weights["x"]) is float
    assert from_dict(Outer, to_dict(found)) == from_dict(Outer, found) == found
    assert from_dict(Outer, {"inner": {"kind": Enum("Choices", {"b": "b"}).b}}).inner.kind == "b"


@pytest.mark.parametrize(
    "values, message",
    [
        ({"inner": {"knd": "b"}}, "`model.inner.knd` is unknown; did you mean `kind`?"),
        ({"zzz": 1}, "`model.zzz` is unknown"),
        ({"inner": {"kind": "c"}}, "`model.inner.kind` must be one of a, b, but is 'c'"),
        ({"inner": 3}, "`model.inner` must have settings, but is 3"),
        ({"inner": {"size": 1.5}}, "`model.inner.size` must be a whole number, but is 1.5"),
        ({"inner": {"size": True}}, "`model.inner.size` must be a whole number, but is True"),
        ({"rate": "fast"}, "`model.rate` must be a number, but is 'fast'"),
        ({"rate": None}, "`model.rate` must be a number, but is None"),
        ({"layers": "12"}, "`model.layers` must be a list, but is '12'"),
        ({"layers": [1, "2"]}, r"`model.layers\[1\]` must be a whole number, but is '2'"),
        ({"weights": {"x": "y"}}, "`model.weights.x` must be a number"),
        ({"on": 1}, "`model.on` must be true or false, but is 1"),
        ([1], "`model` must have settings"),
    ],
)
def test_a_wrong_value_is_named(values, message):
    with pytest.raises(UserError, match=message):
        from_dict(Outer, values)


def test_one_setting_as_a_command_line_says_it():
    start = merged(Outer(), {"inner": {"size": 4}, "layers": [7]})
    assert with_setting(start, "rate", "3") == Outer(Inner("a", 4), 3.0, [7])
    assert with_setting(start, "layers", "[1, 2]").layers == [1, 2]
    assert with_setting(start, "inner.kind", "b") == Outer(Inner("b", 4), 0.5, [7]) and start.inner.kind == "a"
    with pytest.raises(UserError, match="`model.inner.kin` is unknown"):
        with_setting(start, "inner.kin", "b")


@pytest.mark.parametrize("config_class", ALL)
def test_fairseq_s_kind_of_a_config_has_the_same_settings(config_class):
    made = as_fairseq(config_class)
    assert as_fairseq(config_class) is made and issubclass(made, FairseqDataclass) and made.__doc__ == config_class.__doc__
    assert [one.name for one in fields(made)] == ["_name", *(one.name for one in fields(config_class))]
    structured = OmegaConf.structured(made)
    plain = OmegaConf.to_container(structured, enum_to_str=True)
    if "???" not in plain.values():
        assert from_dict(config_class, structured) == from_dict(config_class, plain) == config_class()
    helps = {one.name: one.metadata.get("help") for one in fields(config_class)}
    assert {one.name: one.metadata.get("help") for one in fields(made) if one.name != "_name"} == helps


def test_all_settings_of_a_source_a_frontend_and_an_encoder_are_below_the_model():
    assert len(ALL) >= 10 and BirqConfig in ALL
    keys = to_dict(BirqConfig())
    assert keys["targets"]["own_layer"]["score_scale"] == 20.0 and keys["encoder"]["conv_kernel"] == 31
    assert keys["frontend"]["num_mels"] == 80 and keys["frontend"]["waveform_strides"] == [5, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"encoder": {"conv_norm": "batch"}}, "`model.encoder.conv_norm: batch` is no more.*0.1.0.*Set it to layer"),
        ({"frontend": {"subsampling": "conv2d"}}, "`model.frontend.subsampling: conv2d` is no more.*0.1.0.*Set it to conv1d"),
        ({"mask": {"fill": "learned"}}, "`model.mask.fill: learned` is no more.*0.1.0.*Set it to noise"),
    ],
)
def test_a_value_that_an_earlier_version_had_is_refused_with_its_name(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        BirqModel.build_model(merged(merged(BirqConfig(), {"encoder": {"dim": 16, "num_heads": 2}}), changes))


def test_both_models_have_the_same_encoders():
    assert type(BirqConfig().encoder) is type(BirqCtcConfig().encoder)
