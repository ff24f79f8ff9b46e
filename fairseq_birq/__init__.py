"""fairseq_birq: BEST-RQ and BiRQ pre-training for fairseq (`--user-dir fairseq_birq`).

Importing the package registers its tasks, models and criteria with fairseq, and makes fairseq's checkpoint files atomic.
"""

from fairseq_birq import asr_task, criterion, ctc, ctc_criterion, loading, model, pretraining_task, saving, schedule  # noqa: F401
from fairseq_birq.checkpoint import load_encoder  # noqa: F401
