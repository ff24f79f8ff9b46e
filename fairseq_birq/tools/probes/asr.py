"""Speech recognition on frozen layers: SUPERB's two bidirectional LSTM layers and CTC over letters."""

from typing import Dict, List, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_birq.data.manifest import parallel_lines
from fairseq_birq.data.transcripts import from_letters
from fairseq_birq.decoding.base import frames_needed
from fairseq_birq.decoding.errors import count_errors
from fairseq_birq.decoding.greedy import GreedyDecoder
from fairseq_birq.tools.probes.base import Batch, Probe, Settings

BLANK = 0  # letter k of the classes is k + 1
LONGEST_STEP_MS = 20.0  # of CTC outputs; the upstreams of the benchmark have this frame step


class Asr(Probe):
    """Layer sum, linear layer, two BiLSTM layers with dropout 0.2, letters; greedy decoding, CER chooses on dev.

    Encoder frames longer than 20 ms give several CTC outputs each: at 25 Hz letters would not fit. No language model
    and no augmentation; SUPERB has time warping and masking of the representation.
    """

    suffix = "ltr"
    needs_frames = True
    measure = "cer"
    higher_is_better = False
    settings = Settings(updates=1500, batch_size=16, size=128)
    superb = Settings(updates=200000, lr=1e-4, size=1024)

    def __init__(self, num_states: int, dim: int, classes: Sequence[str], size: int, step_ms: float):
        super().__init__(num_states, dim, classes, size, step_ms)
        self.upsample = max(1, round(step_ms / LONGEST_STEP_MS))
        self.projector = nn.Linear(dim, size)
        self.lstm = nn.LSTM(size, size, num_layers=2, dropout=0.2, bidirectional=True, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(2 * size, self.upsample * (1 + len(classes)))
        self.decoder = GreedyDecoder(BLANK)

    @classmethod
    def read(cls, path, lengths: Sequence[int], step_seconds: float) -> List[List[str]]:
        return [line.split() for line in parallel_lines(path, len(lengths))]

    def log_probs(self, batch: Batch) -> Tensor:
        """(B, upsample * T, letters and blank) float, natural log-probabilities."""
        x = self.projector(self.layer_sum(batch.states))
        packed = nn.utils.rnn.pack_padded_sequence(x, batch.lengths.cpu(), batch_first=True, enforce_sorted=False)
        x, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        x = self.output(self.dropout(x))
        return x.view(x.shape[0], x.shape[1] * self.upsample, -1).log_softmax(-1)

    def loss(self, batch: Batch) -> Tensor:
        targets, lengths = _padded(batch.targets)
        with torch.backends.cudnn.flags(enabled=False):
            losses = F.ctc_loss(
                self.log_probs(batch).transpose(0, 1),
                targets + 1,
                self.upsample * batch.lengths,
                lengths,
                blank=BLANK,
                reduction="none",
                zero_infinity=True,
            )
        return losses.sum() / lengths.sum().clamp(min=1)

    def outputs(self, batch: Batch) -> List[Tensor]:
        hypotheses = self.decoder(self.log_probs(batch), self.upsample * batch.lengths.cpu())
        return [nbest[0].tokens - 1 for nbest in hypotheses]

    def measures(self, outputs: List[Tensor], targets: List[Tensor], trials=None) -> Dict[str, float]:
        """Letters never trained on are errors."""
        counts = count_errors([self.text(row) for row in targets], [self.text(row) for row in outputs])
        return {"cer": counts.cer, "wer": counts.wer}

    def text(self, row: Tensor) -> str:
        return from_letters(self.classes[letter] if letter < len(self.classes) else "\ufffd" for letter in row.tolist())

    def count_too_long(self, targets: List[Tensor], lengths: Tensor) -> int:
        """Utterances with more letters than CTC outputs, which teach nothing. lengths: (U,) frames."""
        return int((frames_needed(*_padded(targets)) > self.upsample * lengths.to(targets[0].device)).sum())

    @classmethod
    def chance(cls, train_targets: List[Tensor], targets: List[Tensor]) -> float:
        return 100.0  # of a probe that writes nothing


def _padded(targets):
    """(B, L) int64 and (B,) lengths."""
    lengths = torch.tensor([len(row) for row in targets], device=targets[0].device)
    return nn.utils.rnn.pad_sequence(targets, batch_first=True), lengths
