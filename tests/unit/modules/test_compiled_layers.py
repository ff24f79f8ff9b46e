"""Compiled layers: the same results and names, and a number of compilations that lengths do not raise.

All but one test trace layers with torch.compile and run them as they are, since compiling to machine code takes minutes.
"""

import copy

import pytest
import torch
from torch._dynamo.utils import counters

from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.ctc import BirqCtcModel
from fairseq_birq.encoders.conformer import ConformerEncoder
from fairseq_birq.errors import UserError
from fairseq_birq.model import BirqModel
from fairseq_birq.modules import compiled_layers
from tests.fixtures import models
from tests.fixtures.checkpoints import write_birq_checkpoint

LENGTHS = [(4, 20), (4, 23), (6, 31), (3, 47), (5, 12), (7, 33)]  # utterances and frames of batches


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    """Layers are traced, and not compiled to machine code; compilations are counted from 0."""
    torch.compiler.reset()
    compiled_layers._compiled.cache_clear()
    monkeypatch.setattr(compiled_layers, "BACKEND", "eager")
    counters.clear()


def compilations():
    return counters["stats"]["unique_graphs"]


def encoders(num_layers=3, **settings):
    """An encoder, and one with the same weights and compiled layers; in float64, which tells rounding from mistakes."""
    torch.manual_seed(0)
    ours = {"dropout": 0.0, "attention_dropout": 0.0, **settings}
    plain = ConformerEncoder(num_layers, 16, 32, 2, conv_kernel=5, **ours).double().train()
    compiled = copy.deepcopy(plain)
    compiled.compile_layers()
    return plain, compiled


def run(encoder, batch, frames, clean_rows=0, padded=True):
    """Hidden states of all layers, and the gradients of their squares' sum."""
    x = torch.randn(batch, frames, 16, generator=torch.Generator().manual_seed(frames), dtype=torch.float64, requires_grad=True)
    lengths = torch.linspace(frames, 0.7 * frames if padded else frames, batch).long()
    layers = encoder.run_layers(x, torch.arange(frames) >= lengths[:, None], clean_rows=clean_rows)
    encoder.zero_grad()
    sum(layer.square().sum() for layer in layers).backward()
    return [*layers, x.grad, *(parameter.grad for parameter in encoder.parameters())]


def assert_equal(got, expected, **tolerances):
    for one, other in zip(got, expected):
        torch.testing.assert_close(one, other, **tolerances)


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_results_are_the_same_and_neither_layers_nor_lengths_are_compiled_anew(positions):
    plain, compiled = encoders(positions=positions)
    for batch, frames in LENGTHS:
        assert_equal(run(compiled, batch, frames), run(plain, batch, frames))
    assert compilations() == 1


def test_each_kind_of_batch_is_compiled_once():
    plain, compiled = encoders(num_layers=2)
    for batch, frames in LENGTHS[:3]:
        run(compiled, batch, frames, padded=False)
        run(compiled, batch, frames, clean_rows=2)
        x, padding_mask = torch.ones(batch, frames, 16).double(), torch.zeros(batch, frames, dtype=torch.bool)
        with torch.no_grad():
            assert_equal(*(encoder.eval()(x, padding_mask).layers for encoder in (compiled, plain)))
        compiled.train()
    assert compilations() == 3


def test_an_encoder_is_compiled_with_dropped_layers_and_recomputed_activations():
    plain, compiled = encoders(layer_dropout=0.4, checkpoint_activations=True)
    for seed, (batch, frames) in enumerate(LENGTHS):
        results = []
        for encoder in (compiled, plain):
            torch.manual_seed(seed)
            results.append(run(encoder, batch, frames, clean_rows=2))
        assert_equal(*results)
    assert compilations() <= 4  # all rows or the clean ones alone; recomputed with gradients or not


def test_dropout_differs_from_update_to_update_and_spares_the_clean_rows():
    plain, compiled = encoders(num_layers=1, dropout=0.2, attention_dropout=0.2)
    first, second = (run(compiled, 4, 20, clean_rows=2)[0] for _ in range(2))
    assert (first[:2] != second[:2]).float().mean() > 0.5
    assert_equal([first[2:]], [run(plain, 4, 20, clean_rows=2)[0][2:]])
    assert compilations() == 1 and compiled.layers[0].convolution.as_operator  # in one piece, and for all lengths


def test_a_model_has_the_same_loss_gradients_and_names():
    use = ["raw_input", "own_layer", "moving_average"]
    settings = {"targets": {"use": use, "moving_average": {"layers": [1, 2]}, "own_layer": {"layers": [1]}}}
    results, names = [], []
    for compiles in (False, True):
        model = models.build(**settings, compile_layers=compiles).double().train()
        assert all(encoder.compiles == compiles for encoder in model.modules() if isinstance(encoder, ConformerEncoder))
        losses = []
        for update, seconds in enumerate(([1.0, 0.7], [1.3, 1.1, 0.6])):
            model.set_num_updates(update)
            given = models.batch(seconds)
            losses.append(model(**{**given, "waveform": given["waveform"].double()}).loss)
        sum(losses).backward()
        results.append([*losses, *(p.grad for p in model.parameters() if p.grad is not None)])
        names.append(list(model.state_dict()))
    assert_equal(*results)
    assert names[0] == names[1] and 1 <= compilations() <= 4


def test_fine_tuning_is_compiled_by_its_own_setting():
    cfg = {"encoder": {"num_layers": 2, "dim": 16, "ffn_dim": 32, "num_heads": 2, "conv_kernel": 5}, "apply_mask": False}
    torch.manual_seed(0)
    with torch.no_grad():
        for compiles in (True, False):
            BirqCtcModel.build_model({**cfg, "compile_layers": compiles}, 5).eval()(**models.batch([1.0, 0.7]))
            assert compilations() == 1


def test_a_checkpoint_of_a_run_with_compiled_layers_is_used_without(tmp_path):
    write_birq_checkpoint(tmp_path / "birq.pt", {"compile_layers": True})
    assert not BirqModel.from_checkpoint(tmp_path / "birq.pt").speech_encoder.encoder.compiles
    assert not load_encoder(tmp_path / "birq.pt").encoder.compiles


def test_what_cannot_be_compiled_is_refused_with_a_sentence(monkeypatch):
    with pytest.raises(UserError, match="`model.compile_layers` works with `model.encoder.name: conformer` only"):
        BirqModel.build_model({"encoder": {"name": "transformer", "num_layers": 1, "dim": 16}, "compile_layers": True})
    monkeypatch.setattr(compiled_layers, "BACKEND", "inductor")
    with pytest.raises(UserError, match="needs triton for the device 'none'.* or set it to false"):
        monkeypatch.setattr(compiled_layers.importlib.util, "find_spec", lambda name: None)
        compiled_layers.check_can_compile("none")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"needs one of the compilers g\+\+ and clang\+\+ .*name it in CXX"):
        run(encoders()[1], 2, 9)
    monkeypatch.setattr(torch, "__version__", "2.4.1+cpu")
    with pytest.raises(UserError, match="needs torch 2.5 or newer"):
        run(encoders()[1], 2, 9)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_machine_code_gives_the_same_and_is_made_once(monkeypatch, dtype):
    monkeypatch.setattr(compiled_layers, "BACKEND", "inductor")
    plain, compiled = (encoder.to(dtype) for encoder in encoders(num_layers=2))
    for batch, frames in LENGTHS:
        x, padding_mask = torch.randn(batch, frames, 16, dtype=dtype), torch.zeros(batch, frames, dtype=torch.bool)
        results = []
        for encoder in (compiled, plain):
            encoder.zero_grad()
            last = encoder.run_layers(x, padding_mask)[-1]
            last.float().square().sum().backward()
            gradient = torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()])
            results.append([last, gradient / gradient.norm()])
        assert_equal(*results, atol=1e-5 if dtype == torch.float32 else 0.06, rtol=0)
    assert compilations() <= 3  # the first layer's input has no gradient
