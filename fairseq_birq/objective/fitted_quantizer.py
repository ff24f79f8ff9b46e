"""A quantizer whose projection or codes were fitted to a corpus: k-means, PCA, refined random codes."""

import hashlib

import torch
from torch import Tensor
from torch.nn import functional as F

from fairseq_birq.modules.float32_buffers import KeepsFloat32

_BLOCK_BYTES = 32 << 20  # of float64 scores that are alive at once


class FittedQuantizer(KeepsFloat32):
    """The code of x in codebook n is `argmin_v || c_v - z ||_2` with `z = (x - mean) P_n`, or its unit vector.

    It stands where a `RandomProjectionQuantizer` gives hard codes, and like it is never trained by a gradient.

    Args:
        mean: (D_in,), taken off first.
        projection: (N, D_in, D), or (1, D_in, D) where all codebooks share it.
        codebook: (N, V, D).
        unit: z is scaled to unit length before the search, as BEST-RQ's is.
    """

    mean: Tensor
    projection: Tensor
    codebook: Tensor

    def __init__(self, mean: Tensor, projection: Tensor, codebook: Tensor, unit: bool):
        super().__init__()
        self.num_codebooks, self.codebook_size = codebook.shape[:2]
        self.unit = unit
        self.register_buffer("mean", mean.float())
        self.register_buffer("projection", projection.float())
        self.register_buffer("codebook", codebook.float())

    def project(self, x: Tensor) -> Tensor:
        """z. x: (M, D_in) float -> (M, N or 1, D) float64."""
        with torch.autocast(x.device.type, enabled=False):
            z = torch.einsum("mi,nid->mnd", x.double() - self.mean.double(), self.projection.double())
            return F.normalize(z, dim=-1) if self.unit else z

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """Codes of x, by a search in float64. x: (..., D_in) float -> (..., N) int64."""
        rows = x.reshape(-1, x.shape[-1])
        codes = torch.empty(rows.shape[0], self.num_codebooks, dtype=torch.int64, device=x.device)
        block_rows = max(1, _BLOCK_BYTES // (8 * self.codebook_size))
        with torch.autocast(x.device.type, enabled=False):
            codebook = self.codebook.double()
            half_squares = codebook.square().sum(-1) / 2  # |c - z|^2 = |z|^2 - 2 (z c - |c|^2 / 2)
            for start in range(0, rows.shape[0], block_rows):
                z = self.project(rows[start : start + block_rows]).expand(-1, self.num_codebooks, -1)
                for n in range(self.num_codebooks):
                    scores = z[:, n] @ codebook[n].t() - half_squares[n]
                    codes[start : start + block_rows, n] = scores.argmax(-1)
        return codes.reshape(*x.shape[:-1], self.num_codebooks)

    def fingerprint(self, settings: str = "") -> str:
        """SHA-256 of mean, projections, codebooks and the settings of the features that they are applied to."""
        digest = hashlib.sha256(f"{settings} unit={self.unit}".encode())
        for tensor in (self.mean, self.projection, self.codebook):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()
