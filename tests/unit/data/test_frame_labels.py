"""Labels on disk: what is written is read, what is not whole or not of this run is refused, crops keep their labels."""

import json
import pickle

import numpy as np
import pytest
import torch

from fairseq_birq.data import frame_labels
from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.frame_labels import FrameGrid, LabelStore, read_info, shard_rows
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.frontends import FRONTENDS
from tests.fixtures.audio import truncate
from tests.fixtures.labels import write_labels
from tests.fixtures.manifests import write_manifest

SECONDS = (1.0, 1.5, 0.03, 2.0, 0.7)


@pytest.fixture
def manifest(tmp_path):
    return write_manifest(tmp_path / "audio", seconds=SECONDS) / "train.tsv"


@pytest.mark.parametrize("num_shards", [1, 2, 5, 7])
@pytest.mark.parametrize("codebook_size, dtype", [(64, np.int16), (1 << 15, np.int16), ((1 << 15) + 1, np.int32)])
def test_what_is_written_is_read(tmp_path, manifest, num_shards, codebook_size, dtype):
    codes = write_labels(tmp_path / "labels", manifest, num_shards, codebook_size=codebook_size)
    codes[0][:] = codebook_size - 1
    frame_labels.write_shard(tmp_path / "whole", read_info(tmp_path / "labels"), 0, codes)
    assert np.load(tmp_path / "whole" / f"codes-0-of-{num_shards}.npy").max() == codebook_size - 1
    assert np.load(tmp_path / "labels" / f"codes-0-of-{num_shards}.npy").dtype == dtype
    store = LabelStore(tmp_path / "labels")
    for row, expected in enumerate(codes):
        assert store.num_frames(row) == len(expected) == [24, 37, 0, 49, 17][row]
        if row:
            assert np.array_equal(store.codes(row, 0, 1000), expected)
            assert np.array_equal(store.codes(row, 3, 5), expected[3:8])
            assert np.array_equal(store.codes(row, len(expected) + 2, 5), expected[:0])
    assert store.codes(1, 0, 1).dtype == np.int64


def test_shards_are_runs_of_rows_that_cover_the_manifest():
    for length in (1, 5, 12):
        for count in (1, 3, 7):
            parts = [shard_rows(length, shard, count) for shard in range(count)]
            assert [row for part in parts for row in part] == list(range(length))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("frontend, step", [("logmel", 640), ("waveform", 320)])
def test_the_grid_counts_the_frontends_frames_of_whole_utterances_and_of_crops(frontend, step):
    frontend = FRONTENDS[frontend](dim=16, **({} if step == 640 else {"waveform_dim": 16}))
    grid = FrameGrid.of(frontend)
    assert grid.frame_step_samples == step
    lengths = torch.arange(40000)
    assert frontend.output_length(lengths).tolist() == [grid.frames(length) for length in range(40000)]
    for length in range(5000, 12000, 37):
        for offset in range(0, length, step):
            assert offset // step + grid.frames(length - offset) <= max(grid.frames(length), offset // step)


def test_a_missing_shard_is_named_with_its_command(tmp_path, manifest):
    write_labels(tmp_path, manifest, num_shards=3)
    (tmp_path / "index-1-of-3.npy").unlink()
    with pytest.raises(UserError, match="1 of 3 shards are missing.*`birq-labels A B C --shard 1/3`"):
        LabelStore(tmp_path)


@pytest.mark.parametrize("kind", ["codes", "index"])
def test_a_damaged_shard_is_named_with_its_command(tmp_path, manifest, kind):
    write_labels(tmp_path, manifest, num_shards=2)
    truncate(tmp_path / f"{kind}-1-of-2.npy", keep=0.7)
    with pytest.raises(UserError, match="damaged.*--shard 1/2`"):
        LabelStore(tmp_path)


def test_shards_of_another_size_are_damaged(tmp_path, manifest):
    codes = write_labels(tmp_path, manifest)
    info = read_info(tmp_path)
    frame_labels.write_shard(tmp_path, info, 0, codes[:-1])
    with pytest.raises(UserError, match="damaged"):
        LabelStore(tmp_path)


@pytest.mark.parametrize(
    "change, part",
    [
        (lambda text: None, "no such file; make labels with `birq-labels"),
        (lambda text: text[:50], "is not what birq-labels writes"),
        (lambda text: "[]", "is not what birq-labels writes"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "has format 2, but this version reads 1"),
        (lambda text: text.replace('"command"', '"comand"'), "comand"),
    ],
)
def test_a_description_that_cannot_be_read_is_a_user_error(tmp_path, manifest, change, part):
    write_labels(tmp_path, manifest)
    path = tmp_path / "labels.json"
    text = change(path.read_text())
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=part):
        LabelStore(tmp_path)


def test_a_folder_takes_the_labels_of_one_job(tmp_path, manifest):
    write_labels(tmp_path, manifest, num_shards=2)
    before = (tmp_path / "labels.json").read_text()
    write_labels(tmp_path, manifest, num_shards=2, checkpoint_sha256="")
    with pytest.raises(UserError, match="what differs is checkpoint_sha256, num_shards[.]"):
        write_labels(tmp_path, manifest, num_shards=3, checkpoint_sha256="b")
    assert (tmp_path / "labels.json").read_text() == before
    (tmp_path / "labels.json").unlink()
    with pytest.raises(UserError, match="labels.json is gone"):
        write_labels(tmp_path, manifest)
    assert not (tmp_path / "labels.json").exists()


def test_a_store_travels_to_worker_processes_by_its_path_alone(tmp_path, manifest):
    codes = write_labels(tmp_path, manifest, num_codebooks=500)
    packed = pickle.dumps(LabelStore(tmp_path))
    assert len(packed) < 1000
    assert np.array_equal(pickle.loads(packed).codes(3, 0, 99), codes[3])


def test_labels_of_another_manifest_are_refused_and_a_moved_corpus_is_not(tmp_path, manifest):
    write_labels(tmp_path / "labels", manifest)
    store = LabelStore(tmp_path / "labels")
    text = manifest.read_text()
    (tmp_path / "moved.tsv").write_text("/elsewhere" + text[text.index("\n") :])
    store.check_manifest(read_manifest(tmp_path / "moved.tsv"))
    lines = text.splitlines()
    others = {
        "fewer": lines[:-1],
        "order": [lines[0], lines[2], lines[1], *lines[3:]],
        "length": [*lines[:-1], lines[-1] + "0"],
        "name": [*lines[:-1], "x" + lines[-1]],
    }
    for name, rows in others.items():
        (tmp_path / f"{name}.tsv").write_text("\n".join(rows) + "\n")
        with pytest.raises(UserError, match=f"another manifest with 5 rows, not of .*{name}.tsv with {len(rows) - 1}"):
            store.check_manifest(read_manifest(tmp_path / f"{name}.tsv"))


def test_what_does_not_fit_is_named_with_its_setting(tmp_path, manifest):
    write_labels(tmp_path, manifest)
    store = LabelStore(tmp_path)
    right = {key: getattr(store.info, key) for key in json.loads((tmp_path / "labels.json").read_text())}
    store.check(**right)
    wrong = dict(sample_rate=8000, first_frame_samples=400, frame_step_samples=320, num_codebooks=1, codebook_size=65)
    for key, value in wrong.items():
        with pytest.raises(UserError, match=f"have {key} {right[key]}, but this run has {value}; set `(task|model)[.]"):
            store.check(**{key: value})


def place_of(part, whole):
    """Sample of `whole` at which `part` begins, by looking for it."""
    (place,) = [start for start in range(len(whole) - len(part) + 1) if torch.equal(whole[start : start + len(part)], part)]
    return place


@pytest.mark.parametrize("max_samples, step", [(10000, None), (10000, 1280), (9999, None), (700, None)])
def test_crops_have_the_labels_of_their_place(tmp_path, manifest, max_samples, step):
    codes = write_labels(tmp_path / "labels", manifest)
    store = LabelStore(tmp_path / "labels")
    options = dict(frame_labels=store, on_bad_audio="error")
    whole = AudioDataset(read_manifest(manifest), **options)
    cropped = AudioDataset(read_manifest(manifest), max_samples=max_samples, crop_step=step, **options)
    places = set()
    for epoch in range(1, 8):
        cropped.set_epoch(epoch)
        for row in range(len(SECONDS)):
            item, full = cropped[row], whole[row]
            place = place_of(item["waveform"], full["waveform"])
            first, count = place // 640, FrameGrid(16000, 880, 640).frames(len(item["waveform"]))
            assert place % (step or 640) == 0 and len(item["waveform"]) == min(max_samples, len(full["waveform"]))
            assert len(item["codes"]) == count
            assert np.array_equal(item["codes"], codes[row][first : first + count])
            assert np.array_equal(full["codes"], codes[row])
            places.add(place)
    assert len(places) > 10


def test_without_labels_crops_begin_anywhere_or_at_multiples_of_the_setting(tmp_path, manifest):
    def places(**options):
        dataset = AudioDataset(read_manifest(manifest), max_samples=8000, **options)
        return [dataset._crop(row, row)[0] for epoch in range(1, 20) for row in (0, 1, 3) if dataset.set_epoch(epoch) is None]

    anywhere = places()
    generator = np.random.default_rng([1, 1, 0])
    assert anywhere[0] == generator.integers(16000 - 8000 + 1)  # as before there was a setting
    assert len({place % 640 for place in anywhere}) > 40
    assert {place % 320 for place in places(crop_step=320)} == {0} != {place % 640 for place in places(crop_step=320)}


@pytest.mark.parametrize("step", [0, -640, 320, 1000])
def test_a_crop_step_that_misses_the_labels_is_refused(tmp_path, manifest, step):
    write_labels(tmp_path / "labels", manifest)
    with pytest.raises(UserError, match=f"`task.crop_step_samples` must be a multiple .* 640, or null, but is {step}"):
        AudioDataset(read_manifest(manifest), frame_labels=LabelStore(tmp_path / "labels"), crop_step=step)


def test_a_batch_pads_codes_with_minus_one_beside_its_frames(tmp_path, manifest):
    codes = write_labels(tmp_path / "labels", manifest)
    dataset = AudioDataset(read_manifest(manifest), frame_labels=LabelStore(tmp_path / "labels"), bad_audio_budget=1.0)
    batch = dataset.collater([dataset[row] for row in (1, 2, 0)])["net_input"]["codes"]
    assert batch.shape == (3, 37, 2) and batch.dtype == torch.int64
    assert np.array_equal(batch[2, :24], codes[0]) and (batch[2, 24:] == -1).all() and (batch[1] == -1).all()
    truncate(dataset.manifest.audio_path(3))
    assert dataset.collater([dataset[3]])["net_input"]["codes"].shape == (0, 0, 2)


def test_an_utterance_whose_labels_do_not_fit_is_bad_audio(tmp_path, manifest):
    codes = write_labels(tmp_path, manifest)
    codes[1] = codes[1][:0]
    codes[3] = np.concatenate([codes[3], codes[3][:1]])
    frame_labels.write_shard(tmp_path, read_info(tmp_path), 0, codes)
    dataset = AudioDataset(read_manifest(manifest), frame_labels=LabelStore(tmp_path))
    assert "0001.flac: has 37 frames, but 0 labels" in dataset[1]["bad"] and "make the labels again" in dataset[1]["bad"]
    assert "0003.flac: has 49 frames, but 50 labels" in dataset[3]["bad"]
    assert [row for row in range(5) if "bad" not in dataset[row]] == [0, 2, 4]
    cropped = AudioDataset(read_manifest(manifest), frame_labels=LabelStore(tmp_path), max_samples=9000)
    assert "0 labels" in cropped[1]["bad"] and "bad" not in cropped[3]


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_crops_of_resampled_audio_never_leave_their_labels(tmp_path, rate):
    """Lengths at which a sample more or less is a frame more or less."""
    seconds = [(880 + 640 * 20 + extra) / 16000 for extra in (-2, -1, -0.5, 0, 0.5, 1, 2, 640)]
    manifest = read_manifest(write_manifest(tmp_path, seconds=seconds, sample_rate=rate) / "train.tsv")
    whole = AudioDataset(manifest)
    lengths = [len(whole[row]["waveform"]) for row in range(len(manifest))]
    grid = FrameGrid(16000, 880, 640)
    write_labels(tmp_path / "labels", tmp_path / "train.tsv", num_codebooks=1)
    codes = [np.arange(grid.frames(length))[:, None] for length in lengths]
    frame_labels.write_shard(tmp_path / "labels", read_info(tmp_path / "labels"), 0, codes)
    for max_samples in (880, 880 + 640 * 20, 880 + 640 * 20 - 1, 880 + 640 * 19):
        dataset = AudioDataset(manifest, frame_labels=LabelStore(tmp_path / "labels"), max_samples=max_samples)
        for epoch in range(1, 6):
            dataset.set_epoch(epoch)
            for row in range(len(manifest)):
                item = dataset[row]
                assert "bad" not in item, item
                assert len(item["codes"]) == grid.frames(len(item["waveform"]))
