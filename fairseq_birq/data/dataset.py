"""Waveforms of a manifest, with letters as targets if there are any, or labels of their frames."""

import logging
import math
from typing import List, Optional, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from fairseq_birq.data.audio import AudioError, read, read_header
from fairseq_birq.data.batching import BatchesByLength
from fairseq_birq.data.frame_labels import LabelStore
from fairseq_birq.data.manifest import Manifest, read_rates
from fairseq_birq.data.speeds import Speeds
from fairseq_birq.data.workers import obey_the_training_process_alone
from fairseq_birq.errors import UserError

logger = logging.getLogger(__name__)

WAVEFORM_DTYPE = torch.float64  # fairseq casts float32 inputs to fp16 or bf16 with the model, and labels would change
ROWS_TRIED_FOR_RATE = 10  # the first readable one of these tells the corpus' sample rate
IDS_PER_PART = 1 << 40  # utterances of shard or corpus k have the ids from k times this on


class AudioDataset(BatchesByLength):
    """Utterances of a manifest; fairseq's `max_tokens` counts their samples (640000 = 40 s at 16 kHz).

    sample_rate: Hz; files at different rates are resampled. The manifest's `.rate` tells each row's; without one all files
        must have the rate of the first readable one, and those that have not are bad audio
    max_samples: longer utterances are cut to this, at a place that depends on (seed, epoch, id) alone;
        with letters nothing is cut
    min_samples: shorter utterances are left out, with one log line that counts them
    on_bad_audio: "skip" counts and names files that cannot be used, "error" stops at the first
    bad_audio_budget: share of the manifest's rows that may be skipped before it is an error; per process
    letters: of the transcripts, per row a 1-D LongTensor without padding
    frame_labels: codes of this manifest's encoder frames, which are cut with the audio
    crop_step: cuts begin at multiples of so many samples; None: of the frame labels' step, or anywhere
    first_id: of row 0; a row's id, to which masks and cuts belong, is this and its number
    speeds: one of them is drawn for (seed, epoch, id); all lengths here are those after it, and `min_samples` is of the fastest

    Raises:
        UserError: no row is long enough, the number of transcripts is not that of the rows, cuts miss the frame labels, or there
            are speeds beside frame labels.
    """

    def __init__(
        self,
        manifest: Manifest,
        sample_rate: int = 16000,
        max_samples: Optional[int] = None,
        min_samples: int = 1,
        on_bad_audio: str = "skip",
        bad_audio_budget: float = 0.01,
        seed: int = 1,
        letters: Optional[List[Tensor]] = None,
        pad_index: int = 1,
        frame_labels: Optional[LabelStore] = None,
        crop_step: Optional[int] = None,
        first_id: int = 0,
        speeds: Sequence[float] = (1.0,),
    ):
        super().__init__()
        if letters is not None and len(letters) != len(manifest):
            raise UserError(f"{manifest.path}: has {len(manifest)} rows, but there are {len(letters)} transcripts")
        self.manifest, self.title = manifest, str(manifest.path)
        self.first_id = first_id
        self.sample_rate = sample_rate
        self.max_samples = max_samples if letters is None else None
        self.seed = seed
        self.letters = letters
        self.pad_index = pad_index
        self.frame_labels = frame_labels
        self.crop_step = _checked_crop_step(crop_step, frame_labels)
        self.speeds = Speeds.build(speeds, seed, frame_labels)
        self.bad_rows_allowed = 0 if on_bad_audio == "error" else math.ceil(bad_audio_budget * len(manifest))
        self.min_samples = max(min_samples, 1)
        self._rates = read_rates(manifest)
        self._first_rate = self._find_first_rate() if self._rates is None else 0  # 0: each row has its own
        self._report_short()
        # Shared with worker processes, which outlive epochs.
        self._epoch = torch.ones(1, dtype=torch.long).share_memory_()
        self._is_bad = torch.zeros(len(manifest), dtype=torch.bool).share_memory_()
        self._in_worker = False

    def __len__(self):
        return len(self.manifest)

    def __getitem__(self, index):
        """{"id", "row", "waveform": (S,) float} or, if the file cannot be used, {"id", "row", "bad": why}.

        With frame labels also "codes": (T, N) long.
        """
        return self.item(int(index), self.first_id + int(index))

    def item(self, row, id_):
        """An utterance under an id of the caller's choice."""
        if not self._in_worker and get_worker_info() is not None:
            self._in_worker = True
            obey_the_training_process_alone()
        offset, count = self._crop(row, id_)
        item = {"id": id_, "row": row}
        try:
            waveform = torch.from_numpy(self._read(row, offset, count, int(self._heard_rates(row, id_))))
            if self.frame_labels is not None:
                item["codes"] = self._codes(row, offset, len(waveform), is_whole=count < 0)
        except AudioError as error:
            return {**item, "bad": str(error)}
        if self.letters is not None:
            item["target"] = self.letters[row]
        return {**item, "waveform": waveform}

    def audio_path(self, id_):
        return self.manifest.audio_path(id_ - self.first_id)

    def collater(self, samples):
        """Pad to the longest; bad items are dropped and counted, so that B may be 0.

        Returns:
            id: (B,) long; net_input: waveform (B, S) float64, padding_mask (B, S) bool, ids (B,) long;
            on_host: ids and num_samples as lists of ints, which stay on the host where tensors go to a device;
            bad_audio: int; user_error: text or None, see `raise_user_error`;
            with letters target (B, L) long, target_lengths (B,) long and ntokens;
            with frame labels net_input has codes (B, T, N) long, -1 on padding
        """
        if not samples:
            return {}  # fairseq's mark for "this process has no batch left"
        return {**self.assemble(samples), "user_error": self.note_bad(samples)}

    def assemble(self, samples):
        """The batch without `user_error`."""
        good = [sample for sample in samples if "waveform" in sample]
        ids = torch.tensor([sample["id"] for sample in good], dtype=torch.long)
        waveform, lengths = _pad([sample["waveform"] for sample in good], 0.0, WAVEFORM_DTYPE)
        padding_mask = torch.arange(waveform.size(1)) >= lengths.unsqueeze(1)
        batch = {
            "id": ids,
            "net_input": {"waveform": waveform, "padding_mask": padding_mask, "ids": ids},
            "on_host": {"ids": ids.tolist(), "num_samples": lengths.tolist()},
            "bad_audio": len(samples) - len(good),
        }
        if self.frame_labels is not None:
            codes = [sample["codes"] for sample in good]
            batch["net_input"]["codes"], _ = _pad(codes, -1, torch.long, self.frame_labels.info.num_codebooks)
        if self.letters is not None:
            batch["target"], batch["target_lengths"] = _pad([sample["target"] for sample in good], self.pad_index, torch.long)
            batch["ntokens"] = int(batch["target_lengths"].sum())
        return batch

    def empty_batch(self):
        """B = 0: of a process that has fewer batches than others."""
        return {**self.assemble([]), "user_error": None}

    @property
    def sizes(self):
        """(rows,) int64 samples of every row; made anew each time, so that no worker has them in memory."""
        return self.num_tokens_vec(np.arange(len(self)))

    def num_tokens_vec(self, indices):
        return self.num_samples_of(indices, self.first_id + np.asarray(indices))

    def num_samples_of(self, rows, ids):
        """(N,) int64 samples of rows under ids of the caller's choice, in this epoch."""
        return self._cut(self._resampled(self.manifest.num_samples[rows], self._heard_rates(rows, ids)))

    def ordered_indices(self):
        return self.long_to_short(self.usable())

    def usable(self):
        """(usable rows,) int64: those that are long enough."""
        rates = self._rates_of(slice(None))
        rates = rates if self.speeds is None else self.speeds.fastest(rates)
        return np.flatnonzero(self._resampled(self.manifest.num_samples, rates) >= self.min_samples)

    @property
    def can_reuse_epoch_itr_across_epochs(self):
        """For fairseq: whether the next epoch has the same batches."""
        return self.speeds is None

    def set_epoch(self, epoch):
        self._epoch.fill_(epoch)

    def _read(self, index, offset, count, heard_rate):
        """(S,) float32, cropped; S may be a sample off `sizes` where the rate was changed."""
        path, expected, file_rate = self.manifest.audio_path(index), self.manifest.count(index), int(self._rates_of(index))
        waveform, file_frames = read(path, self.sample_rate, offset, count, file_rate=file_rate, heard_rate=heard_rate)
        if file_frames != expected:
            raise AudioError(
                f"{path}: holds {file_frames} samples, but {self.manifest.path} says {expected}; "
                "make the manifest again with birq-manifest"
            )
        return waveform

    def _codes(self, index, offset, num_samples, is_whole):
        """(T, N) int64 frame labels of audio from sample `offset` on."""
        info = self.frame_labels.info
        first, wanted = offset // info.frame_step_samples, info.grid.frames(num_samples)
        labelled = self.frame_labels.num_frames(index)
        if first + wanted > labelled or (is_whole and wanted != labelled):
            raise AudioError(
                f"{self.manifest.audio_path(index)}: has {first + wanted} frames, but {labelled} labels in "
                f"{self.frame_labels.folder}; if it was unreadable or another file then, make the labels again"
            )
        try:
            return torch.from_numpy(self.frame_labels.codes(index, first, wanted))
        except UserError as error:
            raise AudioError(f"{self.manifest.audio_path(index)}: {error}") from None

    def _crop(self, row, id_):
        """(first sample, number of samples) to read; -1 reads all."""
        size = self._resampled(self.manifest.count(row), int(self._heard_rates(row, id_)))
        surplus = size - self._cut(size)
        if surplus <= 0:
            return 0, -1
        generator = np.random.default_rng([self.seed, int(self._epoch), id_])
        return int(generator.integers(surplus // self.crop_step + 1)) * self.crop_step, self.max_samples

    def _rates_of(self, rows):
        """Hz of some rows' files, as far as the manifest knows: one of each, or one of all."""
        return self._first_rate if self._rates is None else self._rates[rows]

    def _heard_rates(self, rows, ids):
        """The same at this epoch's speeds."""
        rates = self._rates_of(rows)
        return rates if self.speeds is None else self.speeds.heard(rates, ids, int(self._epoch))

    def _resampled(self, num_samples, rates):
        """Samples at `sample_rate` of files with so many at `rates`."""
        return num_samples if np.isscalar(rates) and rates == self.sample_rate else -(-num_samples * self.sample_rate // rates)

    def _cut(self, num_samples):
        return num_samples if self.max_samples is None else np.minimum(num_samples, self.max_samples)

    def _find_first_rate(self):
        """Hz, of the first readable row."""
        errors = []
        for index in range(min(len(self.manifest), ROWS_TRIED_FOR_RATE)):
            try:
                rate = read_header(self.manifest.audio_path(index)).sample_rate
            except AudioError as error:
                errors.append(str(error))
                continue
            if rate != self.sample_rate:
                logger.info(f"{self.manifest.path}: audio is at {rate} Hz, resampling to {self.sample_rate} Hz")
            return rate
        raise UserError(
            f"{self.manifest.path}: none of its first {len(errors)} audio files can be used; {errors[0]}{self.manifest.moved()}"
        )

    def _report_short(self):
        left_out = len(self) - len(self.usable())
        bound = f"{self.min_samples / self.sample_rate:.2f} s"
        if left_out == len(self):
            raise UserError(f"{self.manifest.path}: all {len(self)} utterances are shorter than {bound}")
        if left_out:
            logger.warning(f"{self.manifest.path}: left out {left_out} of {len(self)} utterances, shorter than {bound}")

    def note_bad(self, samples):
        """Log each bad row once; return the text of the error when there are more than the budget allows."""
        bad = [sample for sample in samples if "bad" in sample]
        for sample in bad:
            if not self._is_bad[sample["row"]]:
                self._is_bad[sample["row"]] = True
                logger.warning(f"bad audio: {sample['bad']}")
        count = int(self._is_bad.sum()) if bad else 0
        if count <= self.bad_rows_allowed:
            return None
        if self.bad_rows_allowed == 0:
            return f"{bad[-1]['bad']} (set on_bad_audio=skip and a bad_audio_budget to go on without such files)"
        return (
            f"{self.manifest.path}: {count} of {len(self)} audio files cannot be used, and bad_audio_budget allows "
            f"{self.bad_rows_allowed}; the last one: {bad[-1]['bad']}{self.manifest.moved()}"
        )


def raise_user_error(batch) -> None:
    """Raise the `UserError` that a collater found, in the main process and not in a worker.

    Raises:
        UserError: the batch carries one.
    """
    if batch.get("user_error"):
        raise UserError(batch["user_error"])


def _checked_crop_step(crop_step, frame_labels):
    frame_step = 1 if frame_labels is None else frame_labels.info.frame_step_samples
    if crop_step is None:
        return frame_step
    if crop_step < 1 or crop_step % frame_step:
        wanted = "at least 1" if frame_step == 1 else f"a multiple of the labels' frame step, {frame_step}, or null"
        raise UserError(f"`task.crop_step_samples` must be {wanted}, but is {crop_step}")
    return crop_step


def _pad(rows, value, dtype, *width):
    """(B, L, *width) filled up with `value` on the right, and (B,) lengths. rows: tensors (length, *width)."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    padded = torch.full((len(rows), int(lengths.max()) if rows else 0, *width), value, dtype=dtype)
    for target, row in zip(padded, rows):
        target[: len(row)] = row
    return padded, lengths
