"""The random-projection quantizer: fixed projections, fixed codebooks, exact nearest codes."""

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fairseq_birq.errors import UserError
from fairseq_birq.modules.cpu import group_size
from fairseq_birq.modules.float32_buffers import KeepsFloat32

_CHUNK_ROWS = 1024  # rows projected in float64 at once
_ACCELERATOR_BYTES = 256 << 20  # of float64 scores alive at once where x is not on the CPU: few launches, little of its memory
_TIE_MARGIN = 4e-6  # above twice the rounding error of a 16-64-term float32 dot product of unit vectors


class RandomProjectionQuantizer(KeepsFloat32):
    """N random projections A_n and codebooks C_n, never trained (BEST-RQ, arXiv 2202.01855, section 3.1).

    The code of x in codebook n is `argmin_v || norm(c_v) - norm(A_n x) ||_2`. A is Xavier-uniform, C standard normal
    with rows of unit length. Both come from `seed` through numpy's frozen MT19937 stream, so that every platform has
    the same; they are float32 whatever the model is cast to.

    Args:
        input_dim: dimension of the vectors to quantize.
        codebook_size: V, codes per codebook.
        codebook_dim: D, dimension of the codes.
        num_codebooks: N; the paper of USM (arXiv 2303.01037) uses several, each with a projection of its own.
        seed: of projections and codebooks.
        block_bytes: most bytes of scores that are alive at once in `nearest`.
        codebook: (N, V, D) of another quantizer, to share it instead of drawing one.

    Raises:
        UserError: a size is not positive.
    """

    projection: Tensor
    codebook: Tensor

    def __init__(
        self, input_dim, codebook_size=8192, codebook_dim=16, num_codebooks=1, seed=1, block_bytes=8 << 20, codebook=None
    ):
        super().__init__()
        sizes = dict(input_dim=input_dim, codebook_size=codebook_size, codebook_dim=codebook_dim, num_codebooks=num_codebooks)
        for name, size in sizes.items():
            if size <= 0:
                raise UserError(f"`quantizer.{name}` must be > 0, but is {size}")
        self.codebook_size, self.num_codebooks, self.block_bytes = codebook_size, num_codebooks, block_bytes
        random = np.random.RandomState(seed)
        bound = (6.0 / (input_dim + codebook_dim)) ** 0.5
        projection = random.uniform(-bound, bound, size=(num_codebooks, input_dim, codebook_dim))
        if codebook is None:
            drawn = random.standard_normal((num_codebooks, codebook_size, codebook_dim))
            codebook = torch.from_numpy(drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).float()
        self.register_buffer("projection", torch.from_numpy(projection).float())  # (N, input_dim, D)
        self.register_buffer("codebook", codebook.clone())  # (N, V, D)

    def project(self, x: Tensor) -> Tensor:
        """Unit vectors in the space of the codes, differentiable. x: (..., input_dim) -> (..., N, D) float32 or 64."""
        with torch.autocast(x.device.type, enabled=False):
            x = x if x.dtype == torch.float64 else x.float()
            projected = torch.einsum("...i,nid->...nd", x, self.projection.to(x.dtype))
            return F.normalize(projected, dim=-1)

    def scores(self, x: Tensor) -> Tensor:
        """`-|| c_v - norm(A x) ||^2`, in [-4, 0], differentiable. x: (..., input_dim) -> (..., N, V); held whole."""
        unit = self.project(x)
        return 2.0 * torch.einsum("...nd,nvd->...nv", unit, self.codebook.to(unit.dtype)) - 2.0

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """Codes of x, equal to a float64 brute-force search. x: (..., input_dim) float -> (..., N) int64.

        The search runs in float32 over blocks of rows; rows whose two best codes are closer than float32 can tell
        apart are searched again in float64. No `[rows, N, V]` is ever whole in memory. On an accelerator the whole search
        is in float64: its products are few, the host waits for nothing, and TF32 has no part in it.
        """
        rows = x.reshape(-1, x.shape[-1])
        if x.device.type != "cpu":
            return self._nearest_in_float64(rows).reshape(*x.shape[:-1], self.num_codebooks)
        codes = torch.empty(rows.shape[0], self.num_codebooks, dtype=torch.int64, device=x.device)
        block_rows = max(1, self.block_bytes // (4 * self.codebook_size))
        scores = torch.empty(min(block_rows, _CHUNK_ROWS), self.codebook_size, device=x.device)  # used by every block
        with torch.autocast(x.device.type, enabled=False):
            for start in range(0, rows.shape[0], _CHUNK_ROWS):
                unit = self.project(rows[start : start + _CHUNK_ROWS].double())
                for n, codebook in enumerate(self.codebook):
                    codes[start : start + _CHUNK_ROWS, n] = _nearest(unit[:, n], codebook, scores)
        return codes.reshape(*x.shape[:-1], self.num_codebooks)

    def _nearest_in_float64(self, rows: Tensor) -> Tensor:
        """rows: (R, input_dim) -> (R, N) int64. All codebooks at once, over blocks of rows."""
        with torch.autocast(rows.device.type, enabled=False):
            unit = self.project(rows.double()).transpose(0, 1)  # (N, R, D)
            codebooks = F.normalize(self.codebook.double(), dim=-1).transpose(1, 2)  # (N, D, V)
            block_rows = max(1, _ACCELERATOR_BYTES // (8 * self.codebook_size * self.num_codebooks))
            blocks = [torch.bmm(block, codebooks).argmax(-1) for block in unit.split(block_rows, dim=1)]
        return (blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)).transpose(0, 1)

    def fingerprint(self, settings: str = "") -> str:
        """SHA-256 of projections, codebooks and the settings of the features that they are applied to."""
        digest = hashlib.sha256(settings.encode())
        for tensor in (self.projection, self.codebook):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _nearest(unit: Tensor, codebook: Tensor, scores: Tensor) -> Tensor:
    """unit: (R, D) float64, codebook: (V, D) float32, scores: (block, V) float32, overwritten -> (R,) int64.

    The search of `modules.cpu.grouped_argmax`, which keeps the best of each group: the second best is among them.
    """
    group, narrow = group_size(codebook.shape[0]), unit.float()
    tops = scores.new_empty(unit.shape[0], codebook.shape[0] // group)
    members = scores.new_empty(unit.shape[0], group)
    for start in range(0, unit.shape[0], scores.shape[0]):
        block = narrow[start : start + scores.shape[0]]
        grouped = torch.mm(block, codebook.t(), out=scores[: block.shape[0]]).view(block.shape[0], -1, group)
        top = torch.amax(grouped, -1, out=tops[start : start + block.shape[0]])
        members[start : start + block.shape[0]] = grouped[torch.arange(len(block), device=block.device), top.argmax(-1)]
    best_groups = tops.topk(min(2, tops.shape[1]), dim=-1)
    best = members.topk(min(2, group), dim=-1)
    codes = tops.argmax(-1) * group + best.indices[:, 0]
    rivals = torch.cat([best_groups.values[:, 1:], best.values[:, 1:]], dim=1)
    close = (rivals > best.values[:, :1] - _TIE_MARGIN).any(1).nonzero().squeeze(1)
    if close.numel():
        exact = unit[close] @ F.normalize(codebook.double(), dim=-1).t()
        codes[close] = exact.argmax(-1)
    return codes
