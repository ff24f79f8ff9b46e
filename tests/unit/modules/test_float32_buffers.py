"""What of a model stays in float32, bit for bit, when fairseq casts the rest of it to half precision."""

import re

import pytest
import torch

from tests.fixtures.models import REFRESH, batch, disturb, latent_rq

SOURCES = ("raw_input", "own_layer", "snapshot", "moving_average")
STAYS = [
    r"(speech_encoder\.frontend|targets\.\w+\.encoder\.frontend|targets\.raw_input)\.log_mel\.(window|filters)",
    r"targets\.\w+\.(quantizer|quantizers\.\d+)\.(projection|codebook)",
    r"targets\.\w+\.normalisations\.\d+\.(mean|second)",  # statistics of hidden states, running and held
    r"targets\.moving_average\.encoder\..*",  # an average in half precision would stand still
]
RUNNING = [(source, part) for source in ("own_layer", "moving_average") for part in ("mean", "second")]


def tensors(model):
    return {name: t for name, t in [*model.named_parameters(), *model.named_buffers()] if t.is_floating_point()}


@pytest.fixture
def model():
    """All sources, with statistics of two batches, an average of two updates and a snapshot of the second."""
    model = latent_rq(SOURCES, normalisation="whiten", other={"quantizer": {"num_codebooks": 2}})
    for update in (1, REFRESH, REFRESH + 1):
        model.set_num_updates(update)
        model(**batch([1.5, 1.1]))
        disturb(model, update)
    return model


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_casting_a_model_leaves_these_in_float32_and_nothing_else(model, dtype):
    before = {name: value.detach().clone() for name, value in tensors(model).items()}
    after = tensors(model.half() if dtype == torch.float16 else model.to(dtype=dtype))  # as fairseq's Trainer does
    stays = {name for name in before if any(re.fullmatch(pattern, name) for pattern in STAYS)}
    assert {name for name, value in after.items() if value.dtype == torch.float32} == stays
    assert all(value.dtype == dtype for name, value in after.items() if name not in stays)
    assert all(torch.equal(after[name], before[name]) for name in stays)
    assert any(not torch.equal(before[name].to(dtype).float(), before[name]) for name in stays)  # there is precision to lose
    for pattern in STAYS:
        assert any(re.fullmatch(pattern, name) for name in stays), pattern


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_model_trains_on_with_the_same_codes_and_float32_statistics_and_averages(model, dtype):
    given = {**batch([1.5, 1.1]), "waveform": batch([1.5, 1.1])["waveform"].double()}  # fairseq casts no float64
    with torch.no_grad():
        expected = model(**given).terms["raw_input"].codes
    model.to(dtype=dtype)
    before = {name: value.detach().clone() for name, value in tensors(model).items()}
    model.set_num_updates(REFRESH + 2)
    model.num_updates -= 1  # the masks of `expected`
    output = model(**given)
    assert torch.equal(output.terms["raw_input"].codes, expected)
    assert output.loss.dtype == torch.float32 and output.terms["own_layer"].entropy_sum.dtype == torch.float64
    moved = {name for name, value in tensors(model).items() if not torch.equal(value, before[name])}
    assert all(f"targets.{source}.normalisations.0.{part}" in moved for source, part in RUNNING)
    assert not any(name.startswith("targets.snapshot") for name in moved)  # its statistics are held
    assert any(name.startswith("targets.moving_average.encoder.encoder") for name in moved)
    assert all(tensors(model)[name].dtype == torch.float32 and tensors(model)[name].isfinite().all() for name in moved)
