"""A reward for soft codes that spread over the codebook: off by default, not in the BiRQ paper."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fairseq_birq.distributed import sum_over_processes
from fairseq_birq.objective.soft_codes import SoftCodes


def diversity_loss(codes: SoftCodes, block_bytes: int) -> Tensor:
    """`M * sum_v m_v log m_v`, mean over label columns, in nats: minus the entropy of the mean label, times its frames.

    m is the mean over the M frames of all processes of `softmax(score_scale * -||c_v - u||^2)`, without noise and
    temperature, as in wav2vec 2.0 (arXiv 2006.11477), equation 4. In blocks that are computed again for the gradient.

    Returns:
        () differentiable in `codes.units`; the sum over processes is the loss of their joined batch.
    """
    columns = [_sums_of_column(codes, index, block_bytes) for index in range(codes.num_columns)]
    sums = torch.stack(columns)
    num_frames = codes.offsets.shape[0]
    everywhere = sum_over_processes(torch.cat([sums.detach().flatten(), sums.new_full((1,), float(num_frames))]))
    mean = everywhere[:-1].view_as(sums) / everywhere[-1].clamp(min=1)
    # The gradient of x log x has a summand 1, which is nothing on a simplex.
    return (sums * mean.clamp(min=1e-30).log()).double().sum() / codes.num_columns


def _sums_of_column(codes: SoftCodes, index: int, block_bytes: int) -> Tensor:
    """(V,) sums over this process's frames, with gradient."""
    unit, codebook = codes.column(index)
    sums = unit.new_zeros(codebook.shape[0])
    for block in unit.split(max(1, block_bytes // (4 * codebook.shape[0]))):
        sums = sums + checkpoint(_summed_labels, block, codebook.to(unit.dtype), codes.score_scale, use_reentrant=False)
    return sums


def _summed_labels(unit, codebook, score_scale):
    with torch.autocast(unit.device.type, enabled=False):
        return (2.0 * score_scale * unit @ codebook.t()).softmax(-1).sum(0)
