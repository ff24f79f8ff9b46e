"""An export is a whole folder or nothing."""

import os
import shutil
from pathlib import Path
from typing import List

from fairseq_birq.checkpoint import load_checkpoint, settings_and_weights, speech_encoder_of
from fairseq_birq.errors import UserError
from fairseq_birq.tools.export import EXPORTS


def export(checkpoint, out, to: str, **options) -> List[str]:
    """Export the model of `checkpoint` into the new folder `out`; returns the names of its files.

    to: a key of `EXPORTS`; options: of its function

    Raises:
        UserError: `out` exists, the checkpoint is unreadable, or this encoder has no such export.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"{out}: is there already; name another folder or remove it")
    content = load_checkpoint(checkpoint)
    cfg, state = settings_and_weights(content, checkpoint)
    encoder = speech_encoder_of(cfg, state, checkpoint)
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    partial = scratch / out.name
    partial.mkdir(parents=True)
    try:
        EXPORTS[to](encoder, cfg, partial, content, **options)
        os.replace(partial, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return sorted(path.name for path in out.iterdir())
