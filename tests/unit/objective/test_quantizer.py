"""The quantizer against a float64 brute-force search, and its promises about memory, precision and seeds."""

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from tests.fixtures.objective import brute_force


@pytest.mark.parametrize("size, dim, books", [(8192, 16, 1), (4096, 16, 3), (97, 5, 2), (1, 4, 1), (300, 1, 2)])
def test_codes_equal_brute_force(size, dim, books):
    quantizer = RandomProjectionQuantizer(40, size, dim, books, seed=3)
    x = torch.randn(700, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.nearest(x), brute_force(quantizer, x))


def test_ties_that_float32_cannot_tell_apart_are_decided_in_float64():
    quantizer = RandomProjectionQuantizer(4, 512, 4, seed=1)
    quantizer.projection.copy_(torch.eye(4)[None])
    twin = quantizer.codebook[0, 7] + 1e-7 * torch.tensor([1.0, -1.0, 1.0, -1.0])
    quantizer.codebook[0, 400] = twin
    direction = quantizer.codebook[0, 7].double() - quantizer.codebook[0, 400].double()
    x = torch.stack([quantizer.codebook[0, 7].double() + step * direction for step in (-9, -2, 0, 2, 9)])
    codes, expected = quantizer.nearest(x), brute_force(quantizer, x)
    assert torch.equal(codes, expected)
    assert {7, 400} == set(expected.flatten().tolist())


@pytest.mark.parametrize("block_bytes", [1, 4 * 1000 * 3, 1 << 30])
def test_codes_do_not_depend_on_blocks_or_batch(block_bytes):
    x = torch.randn(6, 11, 20)
    whole = RandomProjectionQuantizer(20, 1000, 8, 2).nearest(x)
    quantizer = RandomProjectionQuantizer(20, 1000, 8, 2, block_bytes=block_bytes)
    assert torch.equal(quantizer.nearest(x), whole)
    assert torch.equal(torch.stack([quantizer.nearest(row) for row in x]), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_casting_the_model_leaves_projection_codebook_and_codes_alone(dtype):
    x = torch.randn(200, 20)
    quantizer = RandomProjectionQuantizer(20, 500, 8, 2)
    before = quantizer.nearest(x)
    parent = torch.nn.ModuleList([quantizer]).to(dtype)
    assert quantizer.codebook.dtype == quantizer.projection.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(parent[0].nearest(x), before)
    assert quantizer.fingerprint() == RandomProjectionQuantizer(20, 500, 8, 2).fingerprint()


def test_seed_decides_everything_and_nothing_else_does():
    torch.manual_seed(5)
    first = RandomProjectionQuantizer(20, 50, 8, 2, seed=4)
    torch.manual_seed(6)
    again, other = RandomProjectionQuantizer(20, 50, 8, 2, seed=4), RandomProjectionQuantizer(20, 50, 8, 2, seed=5)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert first.fingerprint("stack=4") != first.fingerprint("stack=2")


def test_numbers_of_a_seed_are_frozen():
    """Known values: MT19937 is specified, so these hold on every platform and for ever."""
    quantizer = RandomProjectionQuantizer(2, 2, 2, seed=1)
    published = torch.tensor([0.417022004702574, 0.7203244934421581, 0.00011437481734488664, 0.30233257263183977])
    expected = (2 * published - 1) * (6 / 4) ** 0.5
    assert torch.allclose(quantizer.projection.flatten(), expected, atol=1e-6)


def test_projection_is_xavier_and_rows_of_the_codebook_have_unit_length():
    quantizer = RandomProjectionQuantizer(320, 4096, 16, 2)
    bound = (6 / 336) ** 0.5
    assert quantizer.projection.abs().max() <= bound
    assert quantizer.projection.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert torch.allclose(quantizer.codebook.norm(dim=-1), torch.ones(2, 4096))
    assert quantizer.codebook.mean().abs() < 0.01


def test_scores_are_negative_squared_distances_and_differentiable():
    quantizer = RandomProjectionQuantizer(10, 30, 4, 2)
    x = torch.randn(5, 10, dtype=torch.float64, requires_grad=True)
    scores = quantizer.scores(x)
    distances = (quantizer.project(x)[:, :, None] - quantizer.codebook.double()[None]).pow(2).sum(-1)
    assert torch.allclose(scores, -distances, atol=1e-6)
    assert torch.equal(scores.argmax(-1), quantizer.nearest(x))
    assert torch.autograd.gradcheck(quantizer.scores, (x,))


def test_silence_and_no_frames_are_fine():
    quantizer = RandomProjectionQuantizer(10, 30, 4, 2)
    assert quantizer.nearest(torch.zeros(3, 10)).shape == (3, 2)
    assert quantizer.nearest(torch.zeros(0, 10)).shape == (0, 2)


@pytest.mark.parametrize("name", ["input_dim", "codebook_size", "codebook_dim", "num_codebooks"])
def test_a_size_that_is_not_positive_is_named(name):
    sizes = dict(input_dim=4, codebook_size=4, codebook_dim=4, num_codebooks=1)
    with pytest.raises(UserError, match=name):
        RandomProjectionQuantizer(**{**sizes, name: 0})
