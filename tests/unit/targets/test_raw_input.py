"""BEST-RQ's raw input: what the quantizer sees, by the definition, for each normalisation."""

import pytest
import torch

from tests.fixtures.models import build
from tests.fixtures.objective import brute_force
from tests.fixtures.targets import source_inputs


def by_the_definition(source, inputs, norm):
    """Four frames side by side, in float64: one utterance at a time, of its own frames alone."""
    rows = []
    for wave, padding, frames in zip(inputs.waveform, inputs.padding_mask, (~inputs.frame_padding_mask).sum(1)):
        log_mel = source.log_mel(wave[None, ~padding], padding[None, ~padding]).x[0].double()
        if norm.startswith("utterance"):
            log_mel = (log_mel - log_mel.mean(0)) / log_mel.std(0, unbiased=False)
        while len(log_mel) < 4 * frames:
            log_mel = torch.cat([log_mel, log_mel[-1:]])
        stacked = log_mel[: 4 * frames].reshape(int(frames), -1)
        if norm.endswith("frame"):
            stacked = (stacked - stacked.mean(1, keepdim=True)) / stacked.std(1, unbiased=False, keepdim=True)
        rows.append(stacked)
    return torch.cat(rows)


@pytest.mark.parametrize("feature_norm", ["utterance", "none"])
@pytest.mark.parametrize("norm", ["utterance", "utterance+frame", "frame", "none"])
def test_vectors_and_codes_are_those_of_the_definition(norm, feature_norm):
    """Whether the features are the labels' log-Mel already, or that is computed again."""
    model = build(targets={"raw_input": {"quantizer_norm": norm}}, parts={"frontend": {"feature_norm": feature_norm}})
    source, inputs = model.targets["raw_input"], source_inputs(model)
    assert source.features_are_inputs == (norm.startswith("utterance") == (feature_norm == "utterance"))
    vectors = source.vectors(inputs)
    assert torch.allclose(vectors.double(), by_the_definition(source, inputs, norm), atol=2e-3)
    assert torch.equal(source(inputs), brute_force(source.quantizer, vectors))


def test_the_fingerprint_is_of_log_mel_normalisation_and_quantizer():
    changes = [{}, {"quantizer": {"seed": 4}}, {"targets": {"raw_input": {"quantizer_norm": "frame"}}}]
    changes.append({"parts": {"frontend": {"num_mels": 40}}})
    assert len({build(**change).targets["raw_input"].fingerprint() for change in changes}) == 4
