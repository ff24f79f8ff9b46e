"""What both criteria log of the disturbances of their input: shares of the utterances, and mean ratios in dB."""

from typing import Dict, Optional

from fairseq.logging import metrics
from torch import Tensor

_PREFIX = "disturbance."
_IN_DB = "_snr_db"


def pack(realised: Optional[Dict[str, Tensor]]) -> Dict[str, Tensor]:
    """Flat keys, which fairseq adds up over processes and batches."""
    return {f"{_PREFIX}{name}": value for name, value in (realised or {}).items()}


def log(sums: dict) -> None:
    """`<kind>_share` of the utterances, and `<kind>_snr_db`, the mean over those that the sound was added to."""
    found = {key[len(_PREFIX) :]: float(value) for key, value in sums.items() if str(key).startswith(_PREFIX)}
    if not found.get("utterances"):
        return
    for name, value in found.items():
        kind = name[: -len(_IN_DB)] if name.endswith(_IN_DB) else None
        if kind is not None and found[kind]:
            metrics.log_scalar(name, value / found[kind], found[kind], round=2)
        elif kind is None and name != "utterances":
            metrics.log_scalar(f"{name}_share", value / found["utterances"], found["utterances"], round=3)
