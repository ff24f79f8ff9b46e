"""Gumbel-softmax labels against the definition in float64, one frame and one code at a time."""

import math

import pytest
import torch
from torch.nn import functional as F

from fairseq_birq.objective.soft_codes import SoftCodes, gumbel_rows, gumbel_table

SCALE, TAU = 4.0, 0.7


def two_layers(frames=7, books=2, size=6, dim=3, straight_through=False):
    """Labels of two layers with `books` codebooks each, in float64."""
    generator = torch.Generator().manual_seed(1)

    def unit(*shape):
        return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)

    units = [unit(frames, books, dim).requires_grad_() for _ in range(2)]
    offsets = torch.rand(frames, 2 * books, dtype=torch.float64, generator=generator)
    return SoftCodes(units, [unit(books, size, dim) for _ in range(2)], offsets, SCALE, TAU, straight_through)


def noise_by_hand(offset, size):
    table = gumbel_table(torch.device("cpu"), torch.float64).tolist()
    start = int(offset * (len(table) - size))
    return table[start : start + size]


def by_brute_force(soft, column):
    """Distributions, nearest and sampled codes of a column: column i is codebook i % N of layer i // N."""
    books, size, _ = soft.codebooks[0].shape
    unit, codebook = (
        soft.units[column // books][:, column % books].tolist(),
        soft.codebooks[column // books][column % books].tolist(),
    )
    rows, nearest, sampled = [], [], []
    for t, u in enumerate(unit):
        scores = [-soft.score_scale * sum((c - x) ** 2 for c, x in zip(code, u)) for code in codebook]
        noisy = [score + noise for score, noise in zip(scores, noise_by_hand(soft.offsets[t, column].item(), size))]
        powers = [math.exp(score / soft.temperature) for score in noisy]
        rows.append([power / sum(powers) for power in powers])
        nearest.append(scores.index(max(scores)))
        sampled.append(noisy.index(max(noisy)))
    return torch.tensor(rows, dtype=torch.float64), nearest, sampled


@pytest.mark.parametrize("column", range(4))
def test_labels_equal_brute_force(column):
    soft = two_layers()
    y, nearest, sampled = by_brute_force(soft, column)
    labels = soft.labels(column, torch.float64)
    assert torch.allclose(labels.y, y, atol=1e-12)
    assert torch.allclose(labels.entropy, -(y * y.log()).sum(-1), atol=1e-10)
    assert labels.nearest.tolist() == nearest and labels.sampled.tolist() == sampled


def test_noise_changes_codes():
    labels = [two_layers(frames=200).labels(column, torch.float64) for column in range(4)]
    assert all((one.nearest != one.sampled).any() for one in labels)


def test_the_gradient_reaches_the_unit_vectors_of_its_layer_and_codebook_alone():
    soft = two_layers()
    gradients = torch.autograd.grad(soft.labels(2, torch.float64).y[:, 0].sum(), soft.units, allow_unused=True)
    assert gradients[0] is None and gradients[1][:, 0].abs().min() > 0 and not gradients[1][:, 1].any()
    assert torch.autograd.gradcheck(
        lambda unit: SoftCodes([unit], *arguments_after_units(soft)).labels(1, torch.float64).y, soft.units[0]
    )


def arguments_after_units(soft):
    return soft.codebooks[:1], soft.offsets[:, :2], soft.score_scale, soft.temperature


def test_straight_through_is_one_hot_with_the_gradient_of_the_distribution():
    plain, straight = two_layers(), two_layers(straight_through=True)
    labels = straight.labels(1, torch.float64)
    assert torch.allclose(labels.y, F.one_hot(labels.sampled, 6).double(), atol=1e-12)
    weight = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.autograd.grad((plain.labels(1, torch.float64).y * weight).sum(), plain.units[0])[0]
    assert torch.allclose(torch.autograd.grad((labels.y * weight).sum(), straight.units[0])[0], expected, atol=1e-12)


def test_labels_of_some_frames_are_rows_of_all_labels():
    soft, rows = two_layers(), slice(2, 5)
    some = soft.of_frames(rows, iter([unit[rows] for unit in soft.units]))
    for column in range(4):
        assert torch.equal(some.labels(column, torch.float64).y, soft.labels(column, torch.float64).y[rows])


def test_noise_begins_and_ends_within_the_table():
    table = gumbel_table(torch.device("cpu"), torch.float64)
    rows = gumbel_rows(torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64), 9, torch.float64)
    assert torch.equal(rows[0], table[:9]) and torch.equal(rows[1], table[-10:-1])
