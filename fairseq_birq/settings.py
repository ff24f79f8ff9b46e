"""How a setting is declared and read: plain dataclasses, whose fields carry a help text and, where there are some, choices.

No `from __future__ import annotations` or `X | None` where a config class is defined: omegaconf 2.0.6 refuses them.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import field, fields, is_dataclass, make_dataclass
from enum import Enum
from typing import Any, Iterable, Tuple, Union

from fairseq_birq.errors import UserError

MISSING = "???"  # omegaconf's mark of a setting that a user must give
LAST_WITH_REMOVED = "0.1.0"  # batch normalisation, 2-D subsampling and a learned filler of masked frames
_IGNORED = "_name"  # fairseq adds it to every config class


def setting(default, text: str, choices: Sequence = ()):
    """A field of a config class. default: a value, or a function that makes one; choices: the strings that are allowed."""
    metadata = {"help": text, "choices": tuple(choices)} if choices else {"help": text}
    return field(default_factory=default, metadata=metadata) if callable(default) else field(default=default, metadata=metadata)


def nested(config_class):
    return field(default_factory=config_class)


def assembled(name: str, module: str, parts: Iterable[Tuple[str, Any, Any]], doc: str):
    """A config class of (key, type, field) triples, which a registry joins. module: the `__name__` of the file that has it."""
    made = make_dataclass(name, list(parts))
    made.__module__, made.__doc__ = module, doc
    return made


def fields_of(*config_classes) -> list:
    """(key, type, field) of every setting of some classes, as `assembled` wants them."""
    return [(one.name, one.type, copied(one)) for config_class in config_classes for one in fields(config_class)]


def copied(one):
    """A dataclass field again, for another class."""
    default = {"default": one.default} if one.default_factory is NO_DEFAULT else {"default_factory": one.default_factory}
    return field(metadata=dict(one.metadata), **default)


def from_dict(config_class, values, key: str = "model"):
    """An instance of a config class from nested mappings, as YAML or a checkpoint holds them; defaults where a key is missing.

    values: a mapping (dict, omegaconf's DictConfig) or an instance of a config class
    key: what error messages call the whole

    Raises:
        UserError: a key is unknown, or a value is of another type or none of the choices.
    """
    values = vars(values) if is_dataclass(values) else values
    if not isinstance(values, Mapping):
        raise UserError(f"`{key}` must have settings, but is {values!r:.80}")
    known, found = {one.name: one for one in fields(config_class)}, {}
    for name in values:
        if name == _IGNORED:
            continue
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            raise UserError(f"`{key}.{name}` is unknown{f'; did you mean `{close[0]}`?' if close else ''}")
        found[name] = _value(known[name].type, values[name], f"{key}.{name}", known[name].metadata.get("choices"))
    return config_class(**found)


def with_setting(config, dotted_key: str, text: str, key: str = "model"):
    """The same config with one setting changed, as a command line says it: `quantizer.codebook_size`, `256`.

    Raises:
        UserError: as in `from_dict`.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return merged(config, _nested_dict(dotted_key.split("."), value), key)


def merged(config, changes: Mapping, key: str = "model"):
    """The same config with nested changes. Raises UserError as `from_dict`."""
    return from_dict(type(config), _merged_dict(to_dict(config), changes), key)


def to_dict(config) -> dict:
    """Nested plain values."""
    return {one.name: _plain(getattr(config, one.name)) for one in fields(config)}


def refuse_removed(key: str, value: str, kept: str) -> None:
    """Raises UserError for a value that earlier versions knew."""
    if value != kept:
        raise UserError(
            f"`{key}: {value}` is no more: fairseq_birq {LAST_WITH_REMOVED} is the last version that has it. Set it to {kept} "
            "for a new run; a checkpoint that was trained with it needs that version"
        )


def _value(kind, value, key, choices=None):
    if is_dataclass(kind):
        return from_dict(kind, value, key)
    origin, arguments = getattr(kind, "__origin__", None), getattr(kind, "__args__", ())
    if origin is Union:  # Optional
        return None if value is None else _value(arguments[0], value, key, choices)
    if origin is list and isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_value(arguments[0], one, f"{key}[{index}]") for index, one in enumerate(value)]
    if origin is dict and isinstance(value, Mapping):
        return {name: _value(arguments[1], value[name], f"{key}.{name}") for name in value}
    value = value.value if isinstance(value, Enum) else value
    value = float(value) if kind is float and type(value) is int else value
    if origin is not None or type(value) is not kind:
        raise UserError(f"`{key}` must be {_named(kind)}, but is {value!r:.80}")
    if choices and value not in choices:
        raise UserError(f"`{key}` must be one of {', '.join(choices)}, but is {value!r:.80}")
    return value


def _named(kind) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(kind) or {list: "a list", dict: "a mapping"}[kind.__origin__]


def _plain(value):
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _nested_dict(names, value) -> dict:
    for name in reversed(names):
        value = {name: value}
    return value


def _merged_dict(base: dict, changes: Mapping) -> dict:
    found = dict(base)
    for name, value in changes.items():
        inner = found.get(name)
        found[name] = _merged_dict(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return found
