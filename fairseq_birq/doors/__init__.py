"""What registers with fairseq, and only translates."""

from fairseq_birq.doors import asr_task, criterion, ctc_criterion, optimizer, pretraining_task, stages  # noqa: F401
from fairseq_birq.patches import install

install()
