"""Worsened letters say as much as was asked."""

import json

import numpy as np
import pytest
import torch
from ladder_labels import GRID, letter_classes, letters_of, make, merged, noise_share, pnmi, replaced, tokens

from fairseq_birq.data.frame_labels import LabelStore
from fairseq_birq.measures.label_quality import joint_counts, label_quality

SHARES = np.array([0.3, 0.2, 0.1, 0.05, 0.05, 0.3])  # the last is silence


def spoken(frames=120_000, seed=3):
    """Letters that last one to five frames."""
    generator = np.random.default_rng(seed)
    runs = generator.choice(len(SHARES), size=frames, p=SHARES)
    return np.repeat(runs, generator.integers(1, 6, size=frames))[:frames]


def measured(letters, labels):
    speech = letters < len(SHARES) - 1
    joint = joint_counts(torch.from_numpy(letters[speech]), torch.from_numpy(labels[speech]), len(SHARES), len(SHARES))
    return label_quality(joint)["pnmi"]


@pytest.mark.parametrize("by", ["frame", "token"])
@pytest.mark.parametrize("wanted", [0.1, 0.4, 0.8])
def test_noise_reaches_the_pnmi_that_is_asked(by, wanted):
    letters = spoken()
    labels = replaced(letters, noise_share(SHARES, wanted), SHARES, by, np.random.default_rng(1))
    assert measured(letters, labels) == pytest.approx(wanted, abs=0.015)


def test_noise_leaves_the_letters_as_frequent_as_they_were():
    letters = spoken()
    labels = replaced(letters, 0.5, SHARES, "frame", np.random.default_rng(1))
    assert np.bincount(labels) / len(labels) == pytest.approx(np.bincount(letters) / len(letters), abs=0.01)


def test_tokens_are_replaced_whole():
    letters = spoken(2000)
    labels = replaced(letters, 0.5, SHARES, "token", np.random.default_rng(1))
    unit = tokens(letters)
    assert all(len(set(labels[unit == number])) == 1 for number in range(unit[-1] + 1)) and (labels != letters).any()


def test_merging_stops_at_the_first_step_that_says_less():
    names = merged(SHARES, 0.7)
    letters = spoken()
    assert measured(letters, names[letters]) <= 0.7 < measured(letters, merged(SHARES, 0.95)[letters])
    assert (names == names[-1]).sum() == 1  # silence stays alone


def test_pnmi_of_independent_and_of_equal_labels():
    assert pnmi(np.outer([0.5, 0.5], [0.2, 0.8])) == pytest.approx(0) and pnmi(np.eye(3)) == pytest.approx(1)


@pytest.fixture
def data(tmp_path):
    for split in ("pretrain", "dev"):
        (tmp_path / f"{split}.tsv").write_text(f".\na.flac\t{16000}\nb.flac\t{8000}\n")
        rows = [
            "utt_index\tpath\tstart_s\tend_s\tphone",
            "0\ta.flac\t0.0\t0.4\tb",
            "0\ta.flac\t0.4\t0.7\tSIL",
            "1\tb.flac\t0\t9\ta",
        ]
        (tmp_path / f"{split}.phn").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_letters_of_frames(data):
    classes = letter_classes(data)
    assert classes == {"a": 0, "b": 1, "SIL": 2}
    first, second = letters_of(data, "pretrain", classes)
    assert first.tolist() == [1] * 10 + [2] * (GRID.frames(16000) - 10) and second.tolist() == [0] * GRID.frames(8000)


def test_written_labels_are_read_again_and_both_splits_are_of_one_kind(data, tmp_path):
    done = make(data, tmp_path / "labels", ["pretrain", "dev"])
    stores = [LabelStore(tmp_path / "labels" / split) for split in ("pretrain", "dev")]
    assert done == {"share_replaced": 0.0, "labels": 3}
    assert stores[0].codes(1, 0, 99)[:, 0].tolist() == [0] * GRID.frames(8000)
    assert len({store.info.codes_fingerprint for store in stores}) == 1


def test_other_noise_is_of_another_kind(data, tmp_path):
    for seed in (1, 2):
        make(data, tmp_path / str(seed), ["pretrain"], wanted=0.5, seed=seed)
    infos = [json.loads((tmp_path / str(seed) / "pretrain" / "labels.json").read_text()) for seed in (1, 2)]
    assert infos[0]["fingerprint"] != infos[1]["fingerprint"]
