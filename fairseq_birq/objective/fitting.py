"""Fits a quantizer to a corpus: k-means codes as HuBERT's, PCA in place of the random projection, refined random codes.

Frames come in batches that are read again for every pass, so that a corpus need not fit into memory.
"""

from dataclasses import dataclass
from typing import Callable, Iterable, List, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fairseq_birq.errors import UserError
from fairseq_birq.objective.fitted_quantizer import FittedQuantizer
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer

PROJECTIONS = ("none", "random", "pca", "whitened_pca")
CODEBOOKS = ("random", "kmeans")
_MINI_BATCH = 10000  # frames; HuBERT's
_STARTS, _EPOCHS = 5, 150  # of k-means on the frames that are held
_HELD_BYTES = 256 << 20  # of frames in memory
_LEAST_VARIANCE = 1e-8  # of a whitened component, as a share of the first one's

Passes = Callable[[], Iterable[Tensor]]  # begins a pass over all frames: (M, D_in) float each


@dataclass(frozen=True)
class CodebookSettings:
    """How vectors become codes; sizes as in `model.quantizer`.

    Raises:
        UserError: settings that cannot be.
    """

    projection: str = "none"
    codebook: str = "kmeans"
    num_codebooks: int = 1
    codebook_size: int = 100
    codebook_dim: int = 16  # D after a projection; without one it is that of the vectors
    refine: int = 0  # passes that move each code to the mean of its frames
    seed: int = 5

    def __post_init__(self):
        for key, known in (("projection", PROJECTIONS), ("codebook", CODEBOOKS)):
            if getattr(self, key) not in known:
                raise UserError(f"`{key}` is {getattr(self, key)!r}; known are {', '.join(known)}")
        for key in ("num_codebooks", "codebook_size", "codebook_dim"):
            if getattr(self, key) < 1:
                raise UserError(f"`{key}` must be > 0, but is {getattr(self, key)}")
        if self.refine < 0:
            raise UserError(f"`refine` must be at least 0, but is {self.refine}")
        if self.projection == "none" and self.codebook == "random":
            raise UserError("a random codebook needs a projection: choose random, pca or whitened_pca, or codebook kmeans")

    @property
    def unit(self) -> bool:
        """BEST-RQ's random codes are directions, and so is what its projection gives."""
        return self.codebook == "random" or self.projection == "random"


def fit(settings: CodebookSettings, input_dim: int, passes: Passes, held_bytes: int = _HELD_BYTES) -> FittedQuantizer:
    """A quantizer of `input_dim` dimensions; how frames are looked up afterwards is `FittedQuantizer`'s.

    | projection | P |
    | --- | --- |
    | none | the vectors themselves |
    | random | BEST-RQ's: N matrices of the same seed |
    | pca | the first D principal components, shared by all codebooks |
    | whitened_pca | these, each divided by its standard deviation |

    | codebook | C |
    | --- | --- |
    | random | BEST-RQ's: unit vectors of the same seed |
    | kmeans | centres of scikit-learn's minibatch k-means, N runs of different seeds |

    Args:
        passes: called once per pass over the frames.
        held_bytes: k-means begins on as many frames as this holds, and takes the others in mini-batches of 10,000.

    Raises:
        UserError: fewer frames than codes, more components than dimensions, values that are not finite, no scikit-learn.
    """
    mean = torch.zeros(input_dim, dtype=torch.float64)
    codes = settings.num_codebooks, settings.codebook_size
    drawn = RandomProjectionQuantizer(input_dim, codes[1], settings.codebook_dim, codes[0], seed=settings.seed)
    if settings.projection == "none":
        projection = torch.eye(input_dim)[None]
    elif settings.projection == "random":
        projection = drawn.projection
    else:
        mean, projection = principal_components(passes(), settings.codebook_dim, settings.projection == "whitened_pca")
    quantizer = FittedQuantizer(mean, projection, drawn.codebook, settings.unit)
    if settings.codebook == "kmeans":
        projected = (quantizer.project(x).cpu() for x in checked(passes()))
        quantizer = FittedQuantizer(mean, projection, clusters(projected, *codes, settings.seed, held_bytes), settings.unit)
    for _ in range(settings.refine):
        refine(quantizer, passes(), unit_codes=settings.codebook == "random")
    return quantizer


def checked(batches: Iterable[Tensor]) -> Iterable[Tensor]:
    """Raises UserError for a frame that is not finite."""
    for x in batches:
        if not torch.isfinite(x).all():
            raise UserError("some frames are not finite, so that nothing can be fitted to them; look at audio and checkpoint")
        yield x


def principal_components(batches: Iterable[Tensor], dim: int, whiten: bool) -> Tuple[Tensor, Tensor]:
    """Mean (D_in,) and the `dim` directions of most variance (1, D_in, dim), float64; the largest entry of each is positive.

    Raises:
        UserError: fewer than two frames, more components than dimensions.
    """
    count, total, moments = 0, torch.zeros(()), torch.zeros(())
    for x in checked(batches):
        x = x.double().cpu()
        count, total, moments = count + len(x), total + x.sum(0), moments + x.t() @ x
    if count < 2:
        raise UserError(f"{count} frames are too few for principal components; use more utterances")
    mean = total / count
    if dim > len(mean):
        raise UserError(f"{dim} principal components are more than the {len(mean)} dimensions: set `codebook_dim` lower")
    variances, vectors = torch.linalg.eigh(moments / count - torch.outer(mean, mean))
    variances, vectors = variances.flip(0)[:dim], vectors.flip(1)[:, :dim]
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    if whiten:
        vectors = vectors * variances.clamp(min=_LEAST_VARIANCE * float(variances[0])).clamp(min=1e-300).rsqrt()
    return mean, vectors[None]


def clusters(batches: Iterable[Tensor], num_codebooks: int, size: int, seed: int, held_bytes: int = _HELD_BYTES) -> Tensor:
    """Centres of minibatch k-means: (N, V, D).

    batches: (M, N or 1, D) float each

    Raises:
        UserError: fewer frames than clusters, no scikit-learn.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        raise UserError("k-means needs scikit-learn: pip install 'fairseq_birq[kmeans]'") from None
    models: List[MiniBatchKMeans] = []
    held: List[np.ndarray] = []

    def learn(last: bool):
        frames = np.concatenate(held) if held else np.zeros((0, 1, 1), np.float32)
        if not models and len(frames) < size:
            raise UserError(f"{len(frames)} frames are too few for {size} clusters: use more utterances or fewer clusters")
        columns = [frames[:, n % frames.shape[1]] for n in range(num_codebooks)]
        if models:
            for model, column in zip(models, columns):
                model.partial_fit(column)
        else:
            options = dict(batch_size=_MINI_BATCH, n_init=_STARTS, max_iter=_EPOCHS)
            states = [np.random.RandomState([seed, n]) for n in range(num_codebooks)]
            parts = zip(columns, states)
            models.extend(MiniBatchKMeans(size, random_state=state, **options).fit(column) for column, state in parts)
        held.clear()

    for x in batches:
        held.append(x.float().numpy())
        wanted = _MINI_BATCH if models else max(held_bytes // max(1, 4 * x[0].numel() if len(x) else 1), size)
        if sum(map(len, held)) >= wanted:
            learn(last=False)
    if held or not models:
        learn(last=True)
    return torch.from_numpy(np.stack([model.cluster_centers_ for model in models]))


@torch.no_grad()
def refine(quantizer: FittedQuantizer, batches: Iterable[Tensor], unit_codes: bool) -> None:
    """One pass of Lloyd's algorithm: each code becomes the mean of its frames, and its unit vector where `unit_codes`.

    "Iterative codebook refinement" is what Xu et al. (Interspeech 2026, arXiv 2606.30671) add to BEST-RQ. A code without
    frames stays where it is.
    """
    sums = torch.zeros_like(quantizer.codebook, dtype=torch.float64)
    counts = sums.new_zeros(sums.shape[:2])
    for x in checked(batches):
        z, codes = quantizer.project(x).expand(-1, quantizer.num_codebooks, -1), quantizer.nearest(x)
        for n in range(quantizer.num_codebooks):
            sums[n].index_add_(0, codes[:, n], z[:, n])
            counts[n] += torch.bincount(codes[:, n], minlength=quantizer.codebook_size)
    moved = sums / counts.clamp(min=1)[..., None]
    moved = F.normalize(moved, dim=-1) if unit_codes else moved
    quantizer.codebook.copy_(torch.where(counts[..., None] > 0, moved, quantizer.codebook.double()))
