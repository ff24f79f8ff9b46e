"""What registers with fairseq, and only translates. Importing this package registers all of it, and installs the patches.

`--user-dir fairseq_birq` does it (see `fairseq_birq/__init__.py`), and so does the unpickling of a config in another process.
"""

from fairseq_birq.doors import (  # noqa: F401
    asr_task,
    birq,
    birq_ctc,
    criterion,
    ctc_criterion,
    optimizer,
    pretraining_task,
    stages,
)
from fairseq_birq.patches import install

install()
