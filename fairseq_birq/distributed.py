"""All that this package asks of torch.distributed: how many processes there are, and sums over them."""

from contextlib import contextmanager
from typing import Callable

import torch
from torch import Tensor


def is_on() -> bool:
    """Whether this process is one of a group that talks to each other."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def num_processes() -> int:
    return torch.distributed.get_world_size() if is_on() else 1


def sum_over_processes(x: Tensor) -> Tensor:
    """`x` itself, which becomes the sum over all processes; without others it stays as it is."""
    if is_on():
        torch.distributed.all_reduce(x)
    return x


def begin_sum_over_processes(x: Tensor) -> Callable[[], Tensor]:
    """Begins that sum, which goes on beside whatever comes next; to call what it returns is to wait for `x`."""
    work = torch.distributed.all_reduce(x, async_op=True)

    def finish() -> Tensor:
        work.wait()
        return x

    return finish


def wait_for_all() -> None:
    if is_on():
        torch.distributed.barrier()


@contextmanager
def first_process_first():
    """All processes do what is inside, the first of them before the others: what it leaves on the disk they find there."""
    is_first = not is_on() or torch.distributed.get_rank() == 0
    if not is_first:
        wait_for_all()
    try:
        yield
    finally:
        if is_first:
            wait_for_all()
