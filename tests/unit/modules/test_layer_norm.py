"""Which layer norm is built: apex's where there is a GPU and apex, torch's everywhere else."""

import pytest
import torch

from fairseq_birq.modules import layer_norm


class Fused(torch.nn.LayerNorm):
    """Stands for apex's module, which has torch's parameters."""


TORCH = torch.nn.LayerNorm


@pytest.mark.parametrize("cuda, apex, kind", [(True, Fused, Fused), (False, Fused, TORCH), (True, None, TORCH)])
def test_apex_is_used_on_a_gpu_only(monkeypatch, cuda, apex, kind):
    monkeypatch.setattr(layer_norm, "FusedLayerNorm", apex)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    built = layer_norm.LayerNorm(8)
    assert type(built) is kind
    built.load_state_dict(torch.nn.LayerNorm(8).state_dict())
