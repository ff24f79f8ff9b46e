"""fairseq's own moving average of the trained weights, which copies the whole model."""

import pytest
import torch

from fairseq_birq.patches.loading import with_targets_of_model
from tests.fixtures.runs import METHODS, last_checkpoint, settings, train, write_corpus


@pytest.mark.parametrize("method", METHODS)
def test_store_ema_with_the_transformer(repository, tmp_path, method):
    model = {"encoder": {"name": "transformer"}}
    ema = {"store_ema": True, "ema_decay": 0.9}  # not of a few digits in binary, so that averages of constants are rounded
    corpus = write_corpus(tmp_path / "corpus")
    for updates in (2, 3):  # the second start goes on
        optimization = {"max_update": updates}
        changes = {"model": model, "ema": ema, "optimization": optimization}
        train(settings(repository, method, corpus, tmp_path / "run", changes), tmp_path / "log.txt")
        checkpoint = last_checkpoint(tmp_path / "run")
        trained, averaged = checkpoint["model"], checkpoint["extra_state"]["ema"]
        name = "speech_encoder.encoder.position_conv.0.weight_v"
        assert averaged[name].shape == trained[name].shape and not torch.equal(averaged[name], trained[name])
        constants = [key for key in trained if "quantizer" in key and key.endswith(("codebook", "projection"))]
        assert constants and all(torch.equal(averaged[key], trained[key]) for key in constants)
        states = {key: value for key, value in trained.items() if isinstance(value, dict)}
        assert all(averaged[key]["fingerprint"] == value["fingerprint"] for key, value in states.items())


def test_a_checkpoint_whose_codebooks_were_averaged_goes_on():
    """As earlier versions wrote it."""
    weights = {"encoder.w": 1.0, "targets.raw_input.codebooks": 2.0, "targets.raw_input._extra_state": {"fingerprint": "a"}}
    averaged = {"encoder.w": 0.9, "targets.raw_input.codebooks": 1.9, "targets.raw_input._extra_state": {"fingerprint": "b"}}
    with_targets_of_model({"model": weights, "extra_state": {"ema": averaged}})
    assert averaged == {**weights, "encoder.w": 0.9}
    with_targets_of_model({"model": weights, "extra_state": {}})
