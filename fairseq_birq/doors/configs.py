"""fairseq's kind of config class, from a plain one: the same keys, defaults and help texts."""

import sys
from dataclasses import fields, is_dataclass, make_dataclass

from fairseq.dataclass import ChoiceEnum, FairseqDataclass

from fairseq_birq.settings import copied, nested

_HERE = sys.modules[__name__]


def as_fairseq(config_class):
    """A `FairseqDataclass` with the fields of a plain config class, nested ones too; the same one for the same class.

    It is an attribute of this module, so that other processes can unpickle it; they open all doors by that.
    """
    name = config_class.__name__
    made = getattr(_HERE, name, None)
    if made is None:
        made = make_dataclass(name, [(one.name, *_typed(one)) for one in fields(config_class)], bases=(FairseqDataclass,))
        made.__module__, made.__doc__, made.plain = __name__, config_class.__doc__, config_class
        setattr(_HERE, name, made)
    if made.plain is not config_class:
        raise TypeError(f"two config classes are called {name}: {made.plain.__module__} and {config_class.__module__}")
    return made


def _typed(one):
    """Type and field of a setting, as fairseq wants them."""
    if is_dataclass(one.type):
        inner = as_fairseq(one.type)
        return inner, nested(inner)
    field = copied(one)
    choices = field.metadata.get("choices")
    if choices is None:
        return one.type, field
    field.metadata = {"help": field.metadata["help"]}
    return ChoiceEnum(list(choices)), field
