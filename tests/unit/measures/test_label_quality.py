"""Label quality on hand-made tables, against scikit-learn's mutual information, and on a planted code."""

import pytest
import torch

from fairseq_birq.measures.label_quality import code_measures, frame_phones, joint_counts, label_quality, phone_measures


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


def test_purities_equal_a_count_by_hand_over_scikit_learns_table():
    cluster = pytest.importorskip("sklearn.metrics.cluster")
    generator = torch.Generator().manual_seed(1)
    phones, codes = torch.randint(0, 5, (300,), generator=generator), torch.randint(0, 9, (300,), generator=generator)
    counts = cluster.contingency_matrix(phones, codes)
    quality = label_quality(joint_counts(phones, codes, 5, 9))
    assert quality["phone_purity"] == pytest.approx(sum(max(column) for column in counts.T) / 300)
    assert quality["cluster_purity"] == pytest.approx(sum(max(row) for row in counts) / 300)


def test_phones_beside_shuffled_ones():
    scores = pytest.importorskip("sklearn.metrics")
    phones = torch.arange(600) % 6
    told = phone_measures(torch.stack([phones, torch.zeros_like(phones)], 1), phones, 8)
    assert told["pnmi"] == pytest.approx(0.5) and told["phone_purity"] == pytest.approx((1 + 1 / 6) / 2)
    assert told["cluster_purity"] == 1.0 and told["pnmi_shuffled"] < 0.03 and told["phone_purity_shuffled"] < 0.25
    many = torch.randint(0, 400, (600,), generator=torch.Generator().manual_seed(0))
    biased = phone_measures(many[:, None], phones, 400)
    assert biased["pnmi"] > 0.5 and abs(biased["pnmi_adjusted"]) < 0.06
    assert biased["pnmi_adjusted"] == pytest.approx(
        scores.adjusted_mutual_info_score(phones, many, average_method="min"), abs=0.06
    )


def test_what_codes_are_like_without_a_reference():
    codes, is_first = torch.tensor([[0, 5], [0, 5], [1, 5], [1, 5]]), torch.tensor([True, False, True, False])
    found = code_measures(codes, is_first, 10, 25.0)
    assert found == pytest.approx(
        dict(perplexity=1.5, used_codes=1.5, dead_codes=8.5, top_share=0.75, repeated_share=1.0, bits_per_second=12.5)
    )
