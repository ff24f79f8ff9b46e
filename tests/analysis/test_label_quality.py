"""Label quality on hand-made tables, against scikit-learn's mutual information, and on a planted code."""

import pytest
import torch

from fairseq_birq.analysis.label_quality import frame_phones, joint_counts, label_quality


def test_known_tables():
    assert label_quality(torch.eye(4) * 5) == {"pnmi": pytest.approx(1.0), "phone_purity": 1.0, "cluster_purity": 1.0}
    useless = label_quality(torch.ones(4, 6))
    assert useless["pnmi"] == pytest.approx(0.0, abs=1e-12) and useless["phone_purity"] == 0.25
    split = label_quality(torch.tensor([[2, 2, 0], [0, 0, 4]]))
    assert split == {"pnmi": pytest.approx(1.0), "phone_purity": 1.0, "cluster_purity": 0.75}


def test_mutual_information_equals_scikit_learn():
    scores = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    phones = torch.randint(0, 7, (500,), generator=generator)
    codes = (phones * 3 + torch.randint(0, 5, (500,), generator=generator)) % 20
    expected = scores.mutual_info_score(phones, codes) / scores.mutual_info_score(phones, phones)
    assert label_quality(joint_counts(phones, codes, 7, 20))["pnmi"] == pytest.approx(expected)


def test_frames_take_the_phone_at_their_middle():
    ids = {}
    phones = frame_phones([(0.0, 0.05, "a"), (0.05, 0.13, "SIL"), (0.13, 0.2, "b")], 6, 0.04, ids)
    assert ids == {"a": 0, "b": 1}
    assert phones.tolist() == [0, -1, -1, 1, 1, -1]
