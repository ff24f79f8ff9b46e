"""fairseq_birq: BEST-RQ and BiRQ pre-training for fairseq (`--user-dir fairseq_birq`).

Importing the package registers its tasks, models and criteria with fairseq, makes fairseq's checkpoint files atomic and
its resuming careful.
"""

from fairseq_birq import ctc, model  # noqa: F401
from fairseq_birq.checkpoint import load_encoder  # noqa: F401
from fairseq_birq.doors import (  # noqa: F401
    asr_task,
    criterion,
    ctc_criterion,
    optimizer,
    pretraining_task,
    stages,  # noqa: F401
)

__version__ = "0.2.0"
