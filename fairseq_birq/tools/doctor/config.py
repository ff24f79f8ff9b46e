"""The configuration of a run as hydra and fairseq compose it, with every unknown and missing key named at once.

fairseq stops at the first key that it does not know. And a `???` of a YAML does not stop it where fairseq has a default:
`checkpoint.save_dir: ???` that nobody gives is `checkpoints`, in a folder of hydra's.
"""

import contextlib
import dataclasses
import difflib
import inspect
import io
import warnings
from pathlib import Path
from typing import List, NamedTuple, Optional

from omegaconf import OmegaConf

from fairseq_birq.errors import UserError
from fairseq_birq.tools.doctor.checks import Check, ok, problem

OF_HYDRA = ("defaults", "hydra")
MISSING = "???"


class Launch(NamedTuple):
    """Arguments of fairseq-hydra-train."""

    path: Path  # of the YAML
    overrides: List[str]


class Override(NamedTuple):
    key: str
    value: object
    added: bool  # written with a +
    removed: bool  # written with a ~


def find_yaml(config_dir: Optional[str], config_name: Optional[str], arguments: List[str]) -> Launch:
    """The YAML of `--config-dir` and `--config-name`, or the first of `arguments`, which else are overrides.

    Raises:
        UserError: no YAML is named, or it is not there.
    """
    if config_dir and config_name:
        path = Path(config_dir) / f"{config_name[:-5] if config_name.endswith('.yaml') else config_name}.yaml"
    elif arguments and "=" not in arguments[0]:
        path, arguments = Path(arguments[0]), arguments[1:]
    else:
        raise UserError("name a configuration: --config-dir FOLDER --config-name NAME, or the path of a YAML")
    if not path.is_file():
        raise UserError(f"{path}: no such configuration")
    return Launch(path.absolute(), list(arguments))


def check_config(launch: Launch):
    """(composed config or None, checks). Without a config nothing else of the run can be looked at."""
    try:
        settings = OmegaConf.to_container(OmegaConf.load(str(launch.path)))
        overrides = parse_overrides(launch.overrides)
    except Exception as error:  # the parsers of YAML and of hydra have many kinds
        return None, [problem("config", f"{launch.path}: {_reason(error)}")]
    checks = unknown_keys(settings, overrides)
    checks += [problem("config", f"`{key}` is ??? in {launch.path.name}: add {key}=…") for key in _missing(settings, overrides)]
    if checks:
        return None, checks
    try:
        cfg = compose(launch)
    except Exception as error:  # whatever hydra or omegaconf object to
        return None, [problem("config", f"{launch.path}: {_reason(error)}")]
    named = ", ".join(f"{part} {settings[part]['_name']}" for part in ("task", "model", "criterion") if part in settings)
    checks = [problem("config", f"`{key}` has no value: add {key}=…") for key in sorted(_empty(OmegaConf.to_container(cfg)))]
    return cfg, checks or [ok("config", f"{launch.path.name}: {named}; every key is known and has a value")]


def parse_overrides(lines: List[str]) -> List[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(lines))
    return [Override(one.key_or_group, one.value(), one.is_add(), one.is_delete()) for one in parsed]


def compose(launch: Launch):
    """As fairseq-hydra-train does, with the defaults that fairseq adds from its registries."""
    from fairseq.dataclass.initialize import add_defaults, hydra_init

    import fairseq_birq.doors  # noqa: F401  registers ours

    try:
        from hydra import compose, initialize_config_dir
    except ImportError:  # hydra 1.0
        from hydra.experimental import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    name = launch.path.stem
    versioned = "version_base" in inspect.signature(initialize_config_dir).parameters
    GlobalHydra.instance().clear()
    hydra_init(name)
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hydra's advice to fairseq
        with initialize_config_dir(config_dir=str(launch.path.parent), **({"version_base": "1.1"} if versioned else {})):
            cfg = compose(name, overrides=launch.overrides)
    add_defaults(cfg)
    return cfg


def unknown_keys(settings, overrides: List[Override]) -> List[Check]:
    """What neither fairseq nor this package knows, with the nearest key that is known."""
    checks = []
    for part, inner in settings.items():
        if part in OF_HYDRA:
            continue
        schema, found = _schema(part, settings, overrides)
        checks += found
        if schema is not None and isinstance(inner, dict):
            checks += [_unknown(key, keys) for key, keys in _walk(schema, inner, part)]
    for override in overrides:
        checks += _check_override(override, settings, overrides)
    return checks


def _check_override(override, settings, overrides):
    part, _, rest = override.key.partition(".")
    if part in OF_HYDRA or not rest or override.removed:
        return []
    schema, found = _schema(part, settings, overrides)
    if schema is None:
        return [] if part in settings else found
    nested = override.value
    for key in reversed(rest.split(".")):
        nested = {key: nested}
    unknown = [_unknown(key, keys) for key, keys in _walk(schema, nested, part)]
    if unknown or override.added or _is_typed(part) or _has(settings, override.key):
        return unknown
    return [problem("config", f"`{override.key}` is not in the YAML, so hydra wants a plus: +{override.key}=…")]


def _schema(part, settings, overrides):
    """(dataclass of a top-level part, checks); the dataclass is None where the part takes anything, or is unknown."""
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq.models import MODEL_DATACLASS_REGISTRY
    from fairseq.registry import REGISTRIES
    from fairseq.tasks import TASK_DATACLASS_REGISTRY

    import fairseq_birq.doors  # noqa: F401  registers ours

    fields = FairseqConfig.__dataclass_fields__
    if part not in fields:
        return None, [_unknown(part, list(fields))]
    if _is_typed(part):
        return fields[part].type, []
    registries = {name: registry["dataclass_registry"] for name, registry in REGISTRIES.items()}
    registry = {**registries, "model": MODEL_DATACLASS_REGISTRY, "task": TASK_DATACLASS_REGISTRY}.get(part, {})
    inner = settings.get(part)
    name = inner.get("_name") if isinstance(inner, dict) else inner
    name = next((override.value for override in overrides if override.key == f"{part}._name"), name)
    if not isinstance(name, str) or name in registry or not registry:
        return registry.get(name), []
    return None, [problem("config", f"`{part}._name` is {name}, which is not known{_nearest(name, registry)}")]


def _is_typed(part):
    """Whether fairseq gives hydra the keys of a part; the keys of the others come from registries, later."""
    from fairseq.dataclass.configs import FairseqConfig

    field = FairseqConfig.__dataclass_fields__.get(part)
    return field is not None and dataclasses.is_dataclass(field.type)


def _walk(schema, settings, prefix):
    """(dotted key, known keys beside it) of every key that `schema` has not."""
    fields = {field.name: field for field in dataclasses.fields(schema)}
    for key, value in settings.items():
        if key not in fields and key != "_name":
            yield f"{prefix}.{key}", list(fields)
        elif isinstance(value, dict) and dataclasses.is_dataclass(fields[key].type):
            yield from _walk(fields[key].type, value, f"{prefix}.{key}")


def _unknown(key, known):
    return problem("config", f"`{key}` is unknown{_nearest(key.rpartition('.')[2], known)}")


def _nearest(name, known):
    close = difflib.get_close_matches(name, [str(key) for key in known], n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _has(settings, key):
    for name in key.split("."):
        if not isinstance(settings, dict) or name not in settings:
            return False
        settings = settings[name]
    return True


def _missing(settings, overrides):
    given = {override.key for override in overrides}
    return sorted(key for key in _empty(settings) if key not in given)


def _empty(settings, prefix=""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _empty(value, f"{prefix}{key}.")
        elif isinstance(value, str) and value == MISSING:
            yield f"{prefix}{key}"


def _reason(error):
    """The first lines of an error and of what caused it."""
    errors = [error] + ([error.__cause__] if error.__cause__ else [])
    lines = [line.strip() for one in errors for line in str(one).strip().splitlines()[:2]]
    return "; ".join(line for line in lines if line) or type(error).__name__
