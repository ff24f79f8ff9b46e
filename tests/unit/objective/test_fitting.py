"""Fits: PCA against scikit-learn's, planted clusters, refinement; what cannot be fitted."""

import sys

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.objective.fitting import CodebookSettings, fit, principal_components, refine
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer

FRAMES = torch.randn(900, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.tensor([5.0, 3, 2, 1, 0.5, 0.1])) + 4


def passes(x=FRAMES, size=70):
    return lambda: iter(x.split(size))


def spread(quantizer, x=FRAMES):
    """Mean squared distance to the code, of the first codebook."""
    z, codes = quantizer.project(x)[:, 0], quantizer.nearest(x)[:, 0]
    return float((z - quantizer.codebook[0, codes].double()).square().sum(-1).mean())


def test_principal_components_are_scikit_learns():
    pca = pytest.importorskip("sklearn.decomposition").PCA(3, whiten=True).fit(FRAMES.double().numpy())
    mean, directions = principal_components(passes()(), 3, whiten=False)
    signs = [1 if row[abs(row).argmax()] > 0 else -1 for row in pca.components_]
    expected = torch.from_numpy(pca.components_ * torch.tensor(signs)[:, None].numpy()).t()
    assert torch.allclose(mean, FRAMES.double().mean(0)) and torch.allclose(directions[0], expected, atol=1e-8)
    mean, white = principal_components(passes()(), 6, whiten=True)
    assert torch.allclose(((FRAMES.double() - mean) @ white[0]).t().cov(correction=0), torch.eye(6).double(), atol=1e-6)


@pytest.mark.parametrize("held_bytes", [1 << 20, 4 * 6 * 100])
def test_planted_clusters_are_found_all_at_once_and_in_mini_batches(held_bytes):
    pytest.importorskip("sklearn")
    drawn = torch.Generator().manual_seed(1)
    of = torch.randint(5, (3000,), generator=drawn)
    x = torch.eye(6)[of] * 10 + 0.3 * torch.randn(3000, 6, generator=drawn)
    found = fit(CodebookSettings(codebook_size=5, num_codebooks=2), 6, passes(x), held_bytes)
    again = fit(CodebookSettings(codebook_size=5, num_codebooks=2), 6, passes(x), held_bytes)
    assert found.fingerprint() == again.fingerprint()
    for codes in found.nearest(x).t():
        assert all(len(codes[of == kind].unique()) == 1 for kind in range(5)) and len(codes.unique()) == 5
    columns = found.codebook.view(2, -1)
    assert not torch.equal(columns[0], columns[1])  # seeds of their own


def test_best_rqs_projection_and_codes_are_those_of_the_same_seed():
    ours = fit(CodebookSettings("random", "random", 2, 30, 4, seed=7), 6, passes())
    assert torch.equal(ours.nearest(FRAMES), RandomProjectionQuantizer(6, 30, 4, 2, seed=7).nearest(FRAMES))


@pytest.mark.parametrize("projection", ["random", "pca", "whitened_pca"])
def test_refinement_brings_codes_nearer_to_their_frames_and_stops_where_nothing_moves(projection):
    settings = dict(projection=projection, codebook="random", codebook_size=12, codebook_dim=4, num_codebooks=2)
    spreads = [spread(fit(CodebookSettings(**settings, refine=count), 6, passes())) for count in (0, 1, 2, 6)]
    assert spreads[0] > spreads[1] > spreads[2] > spreads[3]
    refined = fit(CodebookSettings(**settings, refine=60), 6, passes())
    before = refined.codebook.clone()
    refine(refined, passes()(), unit_codes=True)
    assert torch.allclose(refined.codebook, before, atol=1e-6)
    assert torch.allclose(refined.codebook.norm(dim=-1), torch.ones(2, 12), atol=1e-6)


def test_a_code_without_frames_stays_where_it_is():
    quantizer = fit(CodebookSettings("random", "random", 1, 500, 4), 6, passes())
    before, used = quantizer.codebook.clone(), quantizer.nearest(FRAMES[:20]).unique()
    refine(quantizer, [FRAMES[:20]], unit_codes=True)
    moved = (quantizer.codebook != before).any(-1)[0].nonzero().flatten()
    assert torch.equal(moved, used)


@pytest.mark.parametrize(
    "settings, x, part",
    [
        (dict(codebook_size=901), FRAMES, "900 frames are too few for 901 clusters"),
        (dict(), FRAMES[:0], "0 frames are too few"),
        (dict(projection="pca", codebook="random"), FRAMES, "16 principal components are more than the 6 dimensions"),
        (dict(projection="pca", codebook="random", codebook_dim=2), FRAMES[:1], "too few for principal components"),
        (dict(codebook_size=3), FRAMES.masked_fill(FRAMES > 10, float("nan")), "not finite"),
    ],
)
def test_what_cannot_be_fitted_is_said(settings, x, part):
    with pytest.raises(UserError, match=part):
        fit(CodebookSettings(**settings), 6, passes(x))


@pytest.mark.parametrize(
    "settings, part",
    [
        (dict(projection="x"), "`projection` is 'x'"),
        (dict(codebook="x"), "`codebook` is 'x'"),
        (dict(codebook="random"), "needs a projection"),
        (dict(codebook_size=0), "`codebook_size` must be > 0"),
        (dict(refine=-1), "`refine` must be at least 0"),
    ],
)
def test_settings_that_cannot_be(settings, part):
    with pytest.raises(UserError, match=part):
        CodebookSettings(**settings)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(UserError, match=r"fairseq_birq\[kmeans\]"):
        fit(CodebookSettings(), 6, passes())
