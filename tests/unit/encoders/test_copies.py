"""An encoder as a plain torch module: copied, quantized, traced, and called wrongly."""

import copy
import warnings

import pytest
import torch
from torch import nn

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.config import BirqConfig
from fairseq_birq.encoders import ENCODERS
from fairseq_birq.errors import UserError
from fairseq_birq.frontends import FRONTENDS
from fairseq_birq.modules.weight_norm import WeightNormConv1d
from tests.fixtures.audio import waveform_batch
from tests.fixtures.checkpoints import tiny_config, write_birq_checkpoint

KINDS = [(frontend, encoder) for frontend in sorted(FRONTENDS) for encoder in sorted(ENCODERS)]


@pytest.fixture(params=KINDS, ids="-".join)
def encoder(request):
    frontend, name = request.param
    cfg = tiny_config(BirqConfig, {"name": name}, frontend={"name": frontend, "waveform_dim": 24})
    torch.manual_seed(1)
    return build_speech_encoder(cfg.frontend, cfg.encoder).eval()


@pytest.fixture
def batch():
    return waveform_batch(1.0, 1.5)[:2]


def test_a_deep_copy_is_equal_and_independent(encoder, batch):
    before = encoder(*batch).last.detach()
    copied = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    assert torch.equal(copied(*batch).last, before) and not torch.equal(encoder(*batch).last, before)


def test_a_copy_after_a_forward_and_backward_pass(encoder, batch):
    """What the moving average of fairseq's `ema.store_ema` copies."""
    encoder.train()(*batch).last.sum().backward()
    copied = copy.deepcopy(encoder).eval()
    assert torch.equal(copied(*batch).last, encoder.eval()(*batch).last)


def test_dynamic_quantization(encoder, batch):
    if "qnnpack" not in torch.backends.quantized.supported_engines and "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this torch has no quantized kernels")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(encoder, {nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        expected, found = encoder(*batch).last, quantized(*batch).last
    assert any("quantized" in type(module).__module__ for module in quantized.modules())
    assert not torch.equal(found, expected) and torch.allclose(found, expected, atol=0.3)
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.99


def test_weight_norm_is_torch_s_own_bit_for_bit():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = nn.utils.weight_norm(nn.Conv1d(8, 8, 4, padding=2, groups=2), dim=2)
    nn.init.normal_(old.weight_g)
    ours, x = WeightNormConv1d.like(old), torch.randn(2, 8, 20)
    assert torch.equal(ours(x), old(x))
    assert list(ours.state_dict()) == list(old.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in old.named_parameters()]  # of optimizer states
    ours(x).square().sum().backward()
    old(x).square().sum().backward()
    for mine, theirs in zip(ours.parameters(), old.parameters()):
        assert torch.equal(mine.grad, theirs.grad)


def test_checkpoints_of_the_transformer_keep_their_names(tmp_path):
    """As they were written while torch's old weight_norm was in use."""
    write_birq_checkpoint(tmp_path / "encoder.pt", name="transformer")
    names = [name for name in load_encoder(tmp_path / "encoder.pt").state_dict() if "position_conv" in name]
    assert names == [f"encoder.position_conv.0.{name}" for name in ("bias", "weight_g", "weight_v")]


@pytest.mark.parametrize("trace", ["trace", "export"])
def test_tracing_says_what_to_do_instead(encoder, batch, trace):
    if trace == "export" and not hasattr(getattr(torch, "compiler", None), "is_exporting"):
        pytest.skip("this torch does not tell that it exports")
    with pytest.raises(UserError, match="TraceableEncoder"):
        if trace == "trace":
            torch.jit.trace(encoder, batch)
        else:
            torch.export.export(encoder, batch)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda wave, mask: (wave[0], None), r"shape \(24000,\); give \(batch, samples\), as waveform\[None\]"),
        (lambda wave, mask: (wave[:, None], None), r"shape \(2, 1, 24000\)"),
        (lambda wave, mask: (wave.t().contiguous(), None), r"as \(samples, channels\) would"),
        (lambda wave, mask: ((wave * 32768).short(), mask), "is torch.int16; give floats"),
        (lambda wave, mask: (wave, mask[:, :-1]), r"of shape \(2, 23999\)"),
        (lambda wave, mask: (wave, mask[0]), r"of shape \(24000,\)"),
        (lambda wave, mask: (wave, (~mask).long()), "is torch.int64"),
        (lambda wave, mask: (wave, ~mask), "True is padding, not audio"),
        (lambda wave, mask: (wave[1:], ~mask[1:]), "True is padding, not audio"),
    ],
)
def test_wrong_inputs_are_told(encoder, batch, change, message):
    with pytest.raises(UserError, match=message):
        encoder(*change(*batch))


def test_good_inputs_are_taken(encoder, batch):
    waveform, padding_mask = batch
    padded = torch.cat([padding_mask, torch.ones_like(padding_mask[:1])])  # a row of padding alone, beside others
    assert encoder(torch.cat([waveform, waveform[:1]]), padded).last.isfinite().all()
    assert encoder(waveform[:, :100], padding_mask[:, :100]).last.shape[1] == 0
    assert encoder(waveform[:0], padding_mask[:0]).last.shape[0] == 0
    assert encoder(waveform.double()).last.isfinite().all()
