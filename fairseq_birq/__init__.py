"""fairseq_birq: BEST-RQ, BiRQ and Latent-RQ pre-training of speech encoders, for fairseq (`--user-dir fairseq_birq`).

    from fairseq_birq import load_encoder
    encoder = load_encoder("checkpoint_best.pt")

The methods need torch and numpy alone, and importing this package changes nothing in the process. Only where fairseq imports it
as its user directory are tasks, models and criteria registered, and fairseq's checkpoints made safe: see `fairseq_birq/doors`.
"""

import importlib
import os
import sys

__version__ = "0.2.0"
__all__ = ["__version__", "load_encoder"]


def __getattr__(name):
    if name == "load_encoder":
        from fairseq_birq.checkpoint import load_encoder

        return load_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_user_directory() -> bool:
    """Whether fairseq was told to import this folder: it writes the path down before it does."""
    utils = sys.modules.get("fairseq.utils")
    asked = getattr(getattr(utils, "import_user_module", None), "memo", ())
    return any(os.path.realpath(path) == os.path.realpath(__path__[0]) for path in asked)


class _Folders(list):
    """`__path__`, which fairseq looks into where this package was imported before fairseq was told to: a late opening."""

    def __contains__(self, path):
        if _is_user_directory():
            importlib.import_module("fairseq_birq.doors")
        return super().__contains__(path)


__path__ = _Folders(__path__)
if _is_user_directory():
    importlib.import_module("fairseq_birq.doors")
