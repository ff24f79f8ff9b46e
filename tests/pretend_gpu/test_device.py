"""The pretend GPU writes down what happened, where it happened, and computes what the CPU computes."""

import pytest
import torch
from torch.nn import functional as F

from tests.fixtures.pretend_gpu import PretendGpu


def test_launches_and_bytes_are_those_of_the_operations(gpu):
    a, b = torch.ones(10, 20, device=gpu.device), torch.ones(20, 30, device=gpu.device)
    with gpu.recording() as record:
        (a @ b).t().add_(1.0)
    assert record.totals() == dict(launches=2, waits=0, mismatches=0, copies=0, bytes=4 * (200 + 600 + 300) + 4 * 300)
    torch.empty(3, device=gpu.device).fill_(1.0)  # not recorded any more
    assert record.totals()["launches"] == 2


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).all()),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: torch.empty(3).copy_(x),
        lambda x: x.masked_select(x > 0),
    ],
)
def test_each_way_to_wait_is_seen_once(gpu, wait):
    x = torch.tensor([1.0, 2.0, 3.0]).to(gpu.device)
    with gpu.recording() as record:
        wait(x)
    assert record.totals()["waits"] == 1


def test_mixed_devices_are_seen(gpu):
    x = torch.ones(3, device=gpu.device)
    with gpu.recording() as record:
        x * 2.0 + torch.tensor(1.0)  # numbers may come from the host
        assert record.totals()["mismatches"] == 0
        x + torch.ones(3)
    assert record.totals()["mismatches"] == 1


def test_phases_and_places(gpu):
    from fairseq_birq.objective.heads import CodebookHeads

    heads, x = CodebookHeads(4, 5, 1).to(gpu.device), torch.ones(2, 4, device=gpu.device)
    with gpu.recording() as record, gpu.phase("forward"):
        heads.redraw(1, 1)
    assert set(record.by_phase("launches")) == {"forward"} and x.shape == (2, 4)
    assert list(record.by_file("launches")) == ["objective/heads.py"]


def test_a_layer_has_the_cpus_gradients(gpu):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 5, 8), torch.randn(8, 8)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()

    def gradients(device):
        inputs = [x.to(device).requires_grad_(), weight.to(device).requires_grad_()]
        hidden = F.silu(inputs[0] @ inputs[1])
        output = F.scaled_dot_product_attention(hidden, hidden, hidden, attn_mask=mask.to(device))
        return [grad.cpu() for grad in torch.autograd.grad(output.square().sum(), inputs)]

    for ours, cpus in zip(gradients(gpu.device), gradients("cpu")):
        torch.testing.assert_close(ours, cpus)


def test_what_is_patched_is_put_back():
    before = F.silu, F.scaled_dot_product_attention, torch.autocast
    with PretendGpu():
        assert F.silu is not before[0]
    assert (F.silu, F.scaled_dot_product_attention, torch.autocast) == before
