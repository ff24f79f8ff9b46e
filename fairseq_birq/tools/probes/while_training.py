"""A small phone probe while an encoder is trained: does it learn speech, long before the loss can tell?

Nothing of the training is touched: no random number is drawn, no gradient is left behind, every module's mode is
restored, and the work is bounded by the number of utterances and iterations.
"""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict

import torch

from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_alignment
from fairseq_birq.measures.frames import all_frames, batches
from fairseq_birq.measures.label_quality import frame_phones
from fairseq_birq.measures.linear_probe import linear_accuracy


class TrainingProbe:
    """Accuracy of logistic regression on every layer's frames, always of the same utterances.

    Args:
        manifest: path of a `.tsv`; `utterances` of its rows are used, evenly spread: every fourth to test, the others to fit.
        alignment: its phones, see `analysis.frames.read_alignment`.
        iterations: of L-BFGS, per layer.

    Raises:
        UserError: a file is missing or malformed, or the utterances have no phones.
    """

    def __init__(self, manifest, alignment, utterances: int = 32, iterations: int = 30):
        if not Path(alignment).is_file():
            raise UserError(f"`task.probe_alignment`={alignment}: no such file; give an absolute path")
        rows = len(read_manifest(manifest))
        count = min(utterances, rows)
        if count < 4 or iterations < 1:
            raise UserError(
                "`task.probe_utterances` must be at least 4, so many must be in the manifest, and `task.probe_iterations` "
                f"at least 1, but they are {utterances}, {rows} and {iterations}"
            )
        self.rows = [row * rows // count for row in range(count)]
        self.manifest, self.intervals, self.iterations = manifest, read_alignment(alignment), iterations
        for part in (self.rows[3::4], [row for number, row in enumerate(self.rows) if number % 4 != 3]):
            if not any(self.intervals.get(row) for row in part):
                raise UserError(f"{alignment}: has no phones for rows {part} of {manifest}, counted from 0")
        self.net_inputs = None

    def __call__(self, speech_encoder) -> Dict[str, float]:
        """`phone_layer<k>` in per cent, `phone` the best of them, and the `seconds` it took; 0 is what enters layer 1."""
        start = time.perf_counter()
        frontend, device = speech_encoder.frontend, next(speech_encoder.parameters()).device
        if self.net_inputs is None:
            self.net_inputs = list(batches(self.manifest, 8, frontend.sample_rate, self.rows))
        hidden, phones, tested, ids = {}, [], [], {}
        with as_in_eval(speech_encoder):
            for net_input in self.net_inputs:
                inputs = all_frames(speech_encoder, {key: value.to(device) for key, value in net_input.items()})
                for layer, x in inputs.hidden.items():
                    hidden.setdefault(layer, []).append(x[inputs.selected].float())
                for row, length in zip(net_input["ids"].tolist(), inputs.selected.sum(1).tolist()):
                    phones.append(frame_phones(self.intervals.get(row, ()), length, _step_seconds(frontend), ids))
                    tested.append(torch.full((length,), self.rows.index(row) % 4 == 3))
        y, test = torch.cat(phones).to(device), torch.cat(tested).to(device)
        found = {}
        with torch.enable_grad():
            for layer, parts in hidden.items():
                x = torch.cat(parts)
                found[f"phone_layer{layer}"] = 100 * linear_accuracy(x[~test], y[~test], x[test], y[test], steps=self.iterations)
        return {"phone": max(found.values()), **found, "seconds": time.perf_counter() - start}


@contextmanager
def as_in_eval(module):
    """Eval mode without gradients inside; afterwards every submodule has its own mode back."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _step_seconds(frontend):
    return frontend.step_samples / frontend.sample_rate
