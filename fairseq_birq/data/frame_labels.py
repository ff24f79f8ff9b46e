"""Codes of every encoder frame of a corpus, in a folder: written shard by shard, read through memory maps.

| file | content |
| --- | --- |
| `labels.json` | `LabelInfo`: what the labels are of, and how they were made |
| `codes-<i>-of-<n>.npy` | (frames, N) int16 or int32: the frames of shard i's utterances, one utterance after the other |
| `index-<i>-of-<n>.npy` | (utterances + 1,) int64: where each utterance begins in the codes, and where the last one ends |
"""

import itertools
import json
import os
from bisect import bisect_right
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Union

import numpy as np

from fairseq_birq.data.files import written_whole
from fairseq_birq.data.manifest import Manifest
from fairseq_birq.errors import UserError

FORMAT = 1
_SETTINGS = {
    "sample_rate": "task.sample_rate` and `model.frontend.sample_rate",
    "first_frame_samples": "model.frontend",
    "frame_step_samples": "model.frontend",
    "num_codebooks": "model.quantizer.num_codebooks",
    "codebook_size": "model.quantizer.codebook_size",
}
_TEXTS = ("manifest_sha256", "fingerprint", "checkpoint_sha256", "command")
_LARGEST = {"num_utterances": 10**12, "num_shards": 10**5}  # of what labels.json claims; of other numbers what int32 holds


@dataclass(frozen=True)
class FrameGrid:
    """Which samples an encoder frame stands for: frame t begins at sample `t * frame_step_samples`."""

    sample_rate: int  # Hz
    first_frame_samples: int  # what an utterance needs to have a frame at all
    frame_step_samples: int

    @classmethod
    def of(cls, frontend) -> "FrameGrid":
        first = next(count for count in itertools.count(1) if frontend.output_length(count) > 0)
        return cls(frontend.sample_rate, first, frontend.step_samples)

    def frames(self, num_samples: int) -> int:
        return max(0, (num_samples - self.first_frame_samples) // self.frame_step_samples + 1)


@dataclass(frozen=True)
class LabelInfo:
    """The content of `labels.json`."""

    manifest_sha256: str  # `Manifest.fingerprint`
    num_utterances: int
    sample_rate: int  # these three: see `FrameGrid`
    first_frame_samples: int
    frame_step_samples: int
    num_codebooks: int  # N, label columns
    codebook_size: int  # V
    source: Dict[str, Union[str, int]]  # what the codes are of
    fingerprint: str  # of projections, codebooks and statistics
    checkpoint_sha256: str = ""
    num_shards: int = 1
    command: str = ""  # that makes them, but for `--shard`
    format: int = FORMAT

    @property
    def grid(self) -> FrameGrid:
        return FrameGrid(self.sample_rate, self.first_frame_samples, self.frame_step_samples)

    @property
    def codes_fingerprint(self) -> str:
        """Of everything that decides the codes apart from the audio."""
        return f"{self.fingerprint} {self.checkpoint_sha256}"

    @property
    def dtype(self):
        return np.int16 if self.codebook_size <= 1 << 15 else np.int32


def shard_rows(num_utterances: int, shard: int, num_shards: int) -> range:
    """The manifest rows of a shard: shards are runs of rows, as equally long as can be."""
    return range(num_utterances * shard // num_shards, num_utterances * (shard + 1) // num_shards)


def read_info(folder) -> LabelInfo:
    """Raises UserError where `labels.json` is missing or not of this format."""
    path = Path(folder) / "labels.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; make labels with `birq-labels CHECKPOINT MANIFEST {folder} --layer K`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
        info = LabelInfo(**content) if version == FORMAT else None
        if info is not None:
            _check_values(info)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: is not what birq-labels writes ({error}); remove {folder} and make it again") from None
    if info is None:
        raise UserError(f"{path}: has format {version}, but this version reads {FORMAT}; make the labels again")
    return info


def _check_values(info: LabelInfo) -> None:
    """Raises ValueError for a value of another type, or a number that is out of range."""
    for key, value in vars(info).items():
        kind = {"source": dict, **dict.fromkeys(_TEXTS, str)}.get(key, int)
        if type(value) is not kind:
            raise ValueError(f"{key} must be {kind.__name__}, but is {value!r:.80}")
        low = 0 if key == "num_utterances" else 1
        if kind is int and not low <= value <= _LARGEST.get(key, 2**31 - 1):
            raise ValueError(f"{key} must be from {low} to {_LARGEST.get(key, 2**31 - 1)}, but is {value}")


def begin(folder, info: LabelInfo) -> None:
    """Write `labels.json`, or check that the one that is there says the same.

    Raises:
        UserError: the folder holds other labels.
    """
    folder = Path(folder)
    if not (folder / "labels.json").exists():
        stray = sorted(folder.glob("*-of-*.npy"))
        if stray:
            raise UserError(f"{stray[0]}: belongs to labels whose labels.json is gone; remove {folder} or name another folder")
        with written_whole(folder / "labels.json", keep=True) as file:
            file.write(json.dumps(asdict(info), indent=2).encode() + b"\n")
    there = asdict(read_info(folder))
    different = [key for key, value in asdict(info).items() if value != there[key] and key != "command"]
    if different:
        raise UserError(f"{folder}: holds other labels; what differs is {', '.join(different)}. Remove it or name another folder")


def is_complete(folder, shard: int, num_shards: int) -> bool:
    return all(path.is_file() for path in _paths(folder, shard, num_shards))


def write_shard(folder, info: LabelInfo, shard: int, codes: Sequence[np.ndarray]) -> None:
    """codes: (frames, N) int per utterance of the shard."""
    ends = np.cumsum([0, *map(len, codes)], dtype=np.int64)
    joined = np.concatenate([np.zeros((0, info.num_codebooks), info.dtype), *codes]).astype(info.dtype, copy=False)
    for path, array in zip(_paths(folder, shard, info.num_shards), (joined, ends)):
        with written_whole(path) as file:
            np.save(file, array)


def _paths(folder, shard, num_shards):
    return [Path(folder) / f"{kind}-{shard}-of-{num_shards}.npy" for kind in ("codes", "index")]


class LabelStore:
    """Labels of one manifest, all shards of them.

    Raises:
        UserError: a shard is missing or damaged.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.info = read_info(folder)
        count = self.info.num_shards
        missing = [shard for shard in range(count) if not is_complete(folder, shard, count)]
        if missing:
            raise UserError(
                f"{folder}: {len(missing)} of {count} shards are missing; make the first of them with "
                f"`{self.info.command} --shard {missing[0]}/{count}`"
            )
        self._rows = [shard_rows(self.info.num_utterances, shard, count) for shard in range(count)]
        self._starts = [rows.start for rows in self._rows]
        self._codes, self._index = zip(*map(self._load, range(count)))

    def __reduce__(self):
        return LabelStore, (self.folder,)  # memory maps do not travel between processes

    def check_manifest(self, manifest: Manifest) -> None:
        """Raises UserError for labels of another manifest."""
        ours = (len(manifest), manifest.fingerprint())
        if ours != (self.info.num_utterances, self.info.manifest_sha256):
            raise UserError(
                f"{self.folder}: holds labels of another manifest with {self.info.num_utterances} rows, not of "
                f"{manifest.path} with {len(manifest)}; make its own with birq-labels"
            )

    def check(self, **wanted) -> None:
        """Raises UserError where `LabelInfo` is not as wanted."""
        for key, value in wanted.items():
            if getattr(self.info, key) != value:
                raise UserError(
                    f"{self.folder}: its labels have {key} {getattr(self.info, key)}, but this run has {value}; set "
                    f"`{_SETTINGS[key]}` as in the labels, or make others"
                )

    def num_frames(self, row: int) -> int:
        return self._bounds(row)[2]

    def codes(self, row: int, first: int, count: int) -> np.ndarray:
        """Labels of an utterance's frames `first` to `first + count - 1`, as far as it has them: (frames, N) int64.

        Raises:
            UserError: a label is none of the codebook's.
        """
        shard, begin, num_frames = self._bounds(row)
        first, last = min(first, num_frames), min(first + count, num_frames)
        codes = self._codes[shard][begin + first : begin + last].astype(np.int64)
        if codes.size and not 0 <= codes.min() <= codes.max() < self.info.codebook_size:
            raise UserError(self._damaged(shard))
        return codes

    def _bounds(self, row):
        """Shard of an utterance, where its frames begin there, and how many they are."""
        shard = bisect_right(self._starts, row) - 1
        begin, end = self._index[shard][row - self._starts[shard] :][:2].tolist()
        return shard, begin, end - begin

    def _load(self, shard) -> List[np.ndarray]:
        paths = _paths(self.folder, shard, self.info.num_shards)
        try:
            codes, index = np.load(paths[0], mmap_mode="r"), np.array(np.load(paths[1], mmap_mode="r"))
            fits = codes.shape == (index[-1], self.info.num_codebooks) and index.shape == (len(self._rows[shard]) + 1,)
            fits = fits and (codes.dtype, index.dtype) == (self.info.dtype, np.int64)
            fits = fits and index[0] == 0 and bool((np.diff(index) >= 0).all())
        except Exception:  # numpy reads headers in many ways, and each fails differently
            fits = False
        if not fits:
            raise UserError(self._damaged(shard))
        return [codes, index]

    def _damaged(self, shard) -> str:
        return (
            f"{_paths(self.folder, shard, self.info.num_shards)[0]}: the shard is damaged; remove its two files and make it "
            f"again with `{self.info.command} --shard {shard}/{self.info.num_shards}`"
        )


class LabelFolders:
    """The labels of all splits of a corpus, which must all be made alike.

    Args:
        path: holds one folder of labels per split, by the split's name; with sharded data as many such paths as the data
            has, separated in the same way.
        **wanted: values of `LabelInfo` that the labels must have.
    """

    def __init__(self, path, **wanted):
        self.paths = [Path(one) for one in str(path).split(os.pathsep)]
        self.wanted = wanted
        self.codes_fingerprint: Optional[str] = None  # of those that were looked at

    def open(self, split: str, manifest: Manifest, sample_rate: int, shard: int = 0, num_shards: int = 1) -> LabelStore:
        """The labels of a split.

        sample_rate: Hz, of the audio that the model is given
        shard, num_shards: which of the data's folders the manifest is in, and how many there are

        Raises:
            UserError: they are missing, do not fit, or were made otherwise than those of another split.
        """
        if len(self.paths) != num_shards:
            raise UserError(
                f"`model.targets.label_file.path` or `task.frame_labels` names {len(self.paths)} folders, but `task.data` "
                f"{num_shards}; it must name the labels of each of them, separated by `{os.pathsep}`"
            )
        store = LabelStore(self.paths[shard] / split)
        store.check_manifest(manifest)
        store.check(sample_rate=sample_rate)
        store.check(**self.wanted)
        self._compare(store.folder, store.info)
        return store

    def look_at_shards(self, split: str) -> None:
        """All shards' labels of a split, long before their epochs come.

        Raises:
            UserError: some are missing, or made otherwise than the others.
        """
        for path in self.paths:
            self._compare(path / split, read_info(path / split))

    def _compare(self, folder, info: LabelInfo) -> None:
        if self.codes_fingerprint not in (None, info.codes_fingerprint):
            raise UserError(
                f"{folder}: its labels come from another checkpoint or quantizer than those of the other splits in "
                f"{self.paths[0]}; make them again with `birq-labels ... --like {self.paths[0]}/SPLIT`"
            )
        self.codes_fingerprint = info.codes_fingerprint
