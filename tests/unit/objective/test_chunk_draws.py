import pytest
import torch

from fairseq_birq.builders import build_chunk_sampler
from fairseq_birq.config import BirqCtcConfig
from fairseq_birq.ctc import BirqCtcModel
from fairseq_birq.errors import UserError
from fairseq_birq.model import BirqModel
from fairseq_birq.objective.chunk_draws import ChunkSampler
from fairseq_birq.settings import from_dict
from fairseq_birq.structs import Chunks
from tests.fixtures.models import batch, birq, build

STREAMS = {"frontend": {"feature_norm": "running"}, "encoder": {"causal": True}}


def model(**chunks):
    return build(parts=STREAMS, chunks={"prob": 1.0, **chunks}, targets={"use": ["raw_input"]}).train()


def test_draws_follow_their_settings():
    drawn = [ChunkSampler(0.6, 4, 8, 0.75, 1, 3).sample(seed=1, update=update) for update in range(2000)]
    chunked = [one for one in drawn if one is not None]
    assert 0.56 < len(chunked) / len(drawn) < 0.64
    assert {one.num_frames for one in chunked} == {4, 5, 6, 7, 8}
    assert {one.left for one in chunked} == {None, 1, 2, 3}
    assert 0.70 < sum(one.left is not None for one in chunked) / len(chunked) < 0.80
    for values in ([one.num_frames == 4 for one in chunked], [one.left == 1 for one in chunked if one.left is not None]):
        expected = 1 / 5 if values is not None and len(values) == len(chunked) else 1 / 3
        assert abs(sum(values) / len(values) - expected) < 0.05
    assert len({one.full_rows for one in chunked}) == 1


def test_draws_are_functions_of_seed_and_update():
    sampler = ChunkSampler(0.5, 1, 1000, 0.5, 0, 1000)
    first = [sampler.sample(1, update) for update in range(20)]
    assert first == [sampler.sample(1, update) for update in range(20)] and len(set(first)) > 5
    assert first != [sampler.sample(2, update) for update in range(20)]


def test_masked_input_is_computed_in_the_drawn_chunks(monkeypatch):
    ours, seen = model(min_ms=80.0, max_ms=80.0, left_prob=1.0, min_left=1, max_left=1), []
    run_layers = ours.speech_encoder.encoder.run_layers
    monkeypatch.setattr(
        ours.speech_encoder.encoder, "run_layers", lambda *a, **k: seen.append(k["chunks"]) or run_layers(*a, **k)
    )
    ours(**batch([1.0]))
    ours.eval()(**batch([1.0]))
    assert seen == [Chunks(2, 1), None]


def traced(chunks, targets):
    """Loss, what every source gave, and the last layer of the first run through it."""
    ours, sources, last = build(parts=STREAMS, chunks=chunks, targets=targets).train(), {}, []
    for name, source in ours.targets.items():
        source.register_forward_hook(lambda module, args, output, name=name: sources.setdefault(name, output))
    ours.speech_encoder.encoder.layers[1].register_forward_hook(lambda module, args, output: last.append(output.detach()))
    return ours(**batch([1.5, 1.1])).loss, sources, last[0]


@pytest.mark.parametrize("own_layer", [{"target_grad_scale": 1.0}, {"target_grad_scale": 0.0}, {"target_dropout": True}])
def test_targets_see_whole_utterances(own_layer):
    """In either way that the clean pass is run, and through the layers above the targets' own."""
    settings = {"use": ["raw_input", "own_layer"], "own_layer": {"layers": [1], "score_scale": 5.0, **own_layer}}
    whole, whole_sources, whole_last = traced({"prob": 0.0}, settings)
    chunked, chunked_sources, chunked_last = traced({"prob": 1.0, "min_ms": 40.0, "max_ms": 40.0, "max_left": 2}, settings)
    torch.testing.assert_close(whole_sources["own_layer"].units[0], chunked_sources["own_layer"].units[0], atol=1e-5, rtol=0)
    assert torch.equal(whole_sources["raw_input"], chunked_sources["raw_input"])
    assert (whole_last - chunked_last).abs().amax(-1).mean() > 1e-3 and whole != chunked


def test_padding_does_not_matter_in_chunks():
    ours, given = model(min_ms=80.0, max_ms=80.0, max_left=2), batch([1.5, 0.6])
    together = ours(**given).loss
    parts = [
        ours(given["waveform"][row : row + 1, :size], given["padding_mask"][row : row + 1, :size], given["ids"][row : row + 1])
        for row, size in enumerate((24000, 9600))
    ]
    torch.testing.assert_close(together, sum(part.loss for part in parts), atol=1e-3, rtol=0)
    together.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in ours.parameters())


def test_fine_tuning_draws_chunks_too():
    settings = {**STREAMS, "chunks": {"prob": 1.0, "min_ms": 40.0, "max_ms": 40.0, "max_left": 2}, "mask": {"start_prob": 0.0}}
    settings["encoder"] = {
        "num_layers": 2,
        "dim": 16,
        "ffn_dim": 32,
        "num_heads": 2,
        "conv_kernel": 5,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "causal": True,
    }
    torch.manual_seed(0)
    ours = BirqCtcModel.build_model(from_dict(BirqCtcConfig, {**settings, "dropout": 0.0}), 9).train()
    given = batch([1.0])
    chunks = ours.chunk_sampler.sample(ours.seed, 0)
    expected = ours.output(ours.speech_encoder(given["waveform"], given["padding_mask"], chunks=chunks).last)
    torch.testing.assert_close(ours(**given).logits, expected)
    assert not torch.allclose(ours.eval()(**given).logits, expected, atol=1e-3)


@pytest.mark.parametrize(
    "parts,chunks,message",
    [
        (STREAMS, {"min_ms": 20.0}, "`model.chunks.min_ms` of 20 ms is shorter than an encoder frame"),
        (STREAMS, {"max_ms": 650.0}, "`model.chunks.max_ms` of 650 ms is not a whole number"),
        (STREAMS, {"min_ms": 640.0, "max_ms": 320.0}, "must not be larger than `model.chunks.max_ms`"),
        (STREAMS, {"min_left": 5, "max_left": 4}, "must not be larger than `model.chunks.max_left`"),
        (STREAMS, {"min_left": -1}, "`model.chunks.min_left` must be a whole number"),
        (STREAMS, {"prob": 1.5}, "`model.chunks.prob` must be from 0 to 1"),
        (STREAMS, {"left_prob": -0.5}, "`model.chunks.left_prob` must be from 0 to 1"),
        ({"frontend": {"feature_norm": "running"}}, {}, "`model.encoder.causal: true`"),
        ({"encoder": {"causal": True}}, {}, "`feature_norm: running`"),
    ],
)
def test_settings_that_cannot_be_are_refused(parts, chunks, message):
    with pytest.raises(UserError, match=message):
        BirqModel.build_model({**parts, "chunks": {"prob": 0.5, **chunks}})


def test_off_is_off():
    assert birq().chunk_sampler is None and build_chunk_sampler(from_dict(BirqCtcConfig, {}).chunks, None) is None


def test_the_transformer_has_no_such_setting():
    with pytest.raises(UserError, match="`model.encoder.causal` works with"):
        BirqModel.build_model({"encoder": {"name": "transformer", "causal": True}})
