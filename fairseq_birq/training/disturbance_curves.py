"""What is logged of the disturbances of the input: shares of the utterances, and mean ratios in dB."""

from typing import Dict, Iterator, Optional, Tuple

from torch import Tensor

_PREFIX = "disturbance."
_IN_DB = "_snr_db"


def pack(realised: Optional[Dict[str, Tensor]]) -> Dict[str, Tensor]:
    """Flat keys, which trainers add up over processes and batches."""
    return {f"{_PREFIX}{name}": value for name, value in (realised or {}).items()}


def curves(sums: dict) -> Iterator[Tuple[str, float, float, int]]:
    """(name, value, weight, digits): `<kind>_share` of the utterances, and `<kind>_snr_db`, the mean over those that the
    sound was added to."""
    found = {key[len(_PREFIX) :]: float(value) for key, value in sums.items() if str(key).startswith(_PREFIX)}
    if not found.get("utterances"):
        return
    for name, value in found.items():
        kind = name[: -len(_IN_DB)] if name.endswith(_IN_DB) else None
        if kind is not None and found[kind]:
            yield name, value / found[kind], found[kind], 2
        elif kind is None and name != "utterances":
            yield f"{name}_share", value / found["utterances"], found["utterances"], 3
