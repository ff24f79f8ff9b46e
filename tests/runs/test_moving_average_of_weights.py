"""fairseq's own moving average of the trained weights, which copies the whole model."""

import pytest
import torch

from tests.fixtures.runs import METHODS, last_checkpoint, settings, train, write_corpus


@pytest.mark.parametrize("method", METHODS)
def test_store_ema_with_the_transformer(repository, tmp_path, method):
    model = {"encoder": {"name": "transformer"}}
    ema = {"store_ema": True, "ema_decay": 0.5}
    cfg = settings(repository, method, write_corpus(tmp_path / "corpus"), tmp_path / "run", {"model": model, "ema": ema})
    train(cfg, tmp_path / "log.txt")
    checkpoint = last_checkpoint(tmp_path / "run")
    trained, averaged = checkpoint["model"], checkpoint["extra_state"]["ema"]
    name = "speech_encoder.encoder.position_conv.0.weight_v"
    assert averaged[name].shape == trained[name].shape and not torch.equal(averaged[name], trained[name])
