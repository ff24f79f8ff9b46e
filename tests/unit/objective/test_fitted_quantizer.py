"""Codes of a fitted quantizer against a brute-force search; what it stores, and what its fingerprint sees."""

import pytest
import torch

from fairseq_birq.objective.fitted_quantizer import FittedQuantizer
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer


def quantizer(unit=False, shared=False, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    sizes = (6,), (1 if shared else 3, 6, 4), (3, 40, 4)
    return FittedQuantizer(*(torch.randn(size, generator=drawn) for size in sizes), unit=unit)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_codes_are_the_nearest_in_float64(unit, shared, monkeypatch):
    monkeypatch.setattr("fairseq_birq.objective.fitted_quantizer._BLOCK_BYTES", 8 * 40 * 7)  # 7 rows at once
    ours, x = quantizer(unit, shared), torch.randn(5, 20, 6, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = ours.nearest(x)
    assert codes.shape == (5, 20, 3) and codes.dtype == torch.int64
    for n in range(3):
        z = (x.double() - ours.mean.double()) @ ours.projection[0 if shared else n].double()
        z = z / z.norm(dim=-1, keepdim=True) if unit else z
        assert torch.equal(codes[..., n], torch.cdist(z.flatten(0, 1), ours.codebook[n].double()).argmin(-1).view(5, 20))


def test_with_best_rqs_projection_and_codes_it_gives_best_rqs_labels():
    random, x = RandomProjectionQuantizer(6, 300, 8, 2, seed=3), torch.randn(500, 6, generator=torch.Generator().manual_seed(2))
    ours = FittedQuantizer(torch.zeros(6), random.projection, random.codebook, unit=True)
    assert torch.equal(ours.nearest(x), random.nearest(x))
    assert (ours.nearest(x) != FittedQuantizer(torch.ones(6), random.projection, random.codebook, True).nearest(x)).any()


def test_it_is_stored_keeps_float32_and_its_fingerprint_sees_every_part():
    ours, other = quantizer(), quantizer(seed=1)
    assert ours.fingerprint() != other.fingerprint() != quantizer(seed=1, unit=True).fingerprint()
    other.load_state_dict(ours.bfloat16().state_dict())
    assert other.fingerprint() == ours.fingerprint() == quantizer().fingerprint() and ours.codebook.dtype == torch.float32
    for name in ("mean", "projection", "codebook"):
        changed = quantizer()
        getattr(changed, name).view(-1)[0] += 1e-3
        assert changed.fingerprint() != ours.fingerprint()
    assert ours.fingerprint("a") != ours.fingerprint("b")
