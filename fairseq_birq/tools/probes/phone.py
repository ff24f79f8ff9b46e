"""Which phone is in a frame: one linear layer on every frame, as s3prl's `phone_linear`."""

from typing import List, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_alignment
from fairseq_birq.measures.label_quality import frame_phones
from fairseq_birq.tools.probes.base import LEFT_OUT, Batch, Probe, Settings


class Phone(Probe):
    """Layer sum and a linear layer; frames without a phone, and silence, are left out. Accuracy over frames.

    `<split>.phn` is an alignment, see `analysis.alignment.read_alignment`; a frame has the phone at its middle.
    """

    suffix = "phn"
    needs_frames = True
    settings = Settings(updates=1500)
    superb = Settings(updates=500000, lr=2e-4)  # s3prl's, which has AdamW here; SUPERB's own phone task is CTC

    def __init__(self, num_states: int, dim: int, classes: Sequence[str], size: int, step_ms: float):
        super().__init__(num_states, dim, classes, size, step_ms)
        self.output = nn.Linear(dim, len(classes))

    @classmethod
    def read(cls, path, lengths: Sequence[int], step_seconds: float) -> List[List[str]]:
        if not path.is_file():
            raise UserError(f"{path}: no such alignment; it needs the columns utt_index, start_s, end_s and phone")
        intervals, ids = read_alignment(path), {}
        rows = [frame_phones(intervals.get(row, ()), length, step_seconds, ids) for row, length in enumerate(lengths)]
        if not ids:
            raise UserError(f"{path}: no frame of the manifest has a phone; utt_index counts its rows from 0")
        names = {index: name for name, index in ids.items()}
        return [[names.get(phone, "") for phone in row.tolist()] for row in rows]

    def loss(self, batch: Batch) -> Tensor:
        logits, targets = self._labelled(batch)
        return F.cross_entropy(logits, targets) if len(targets) else 0.0 * logits.sum()

    def outputs(self, batch: Batch) -> List[Tensor]:
        best = self.output(self.layer_sum(batch.states)).argmax(-1)
        return [row[:length] for row, length in zip(best, batch.lengths.tolist())]

    def _labelled(self, batch):
        """Logits and targets of the frames that have a phone."""
        targets = nn.utils.rnn.pad_sequence(batch.targets, batch_first=True, padding_value=LEFT_OUT)
        keep = targets != LEFT_OUT
        return self.output(self.layer_sum(batch.states[keep])), targets[keep]
