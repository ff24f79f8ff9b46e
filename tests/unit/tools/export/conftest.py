import pytest
import torch

from tests.fixtures.audio import waveform_batch
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.exports import WAVEFORM

pytest.importorskip("safetensors")  # not in the environment of the old fairseq


@pytest.fixture
def conformer(tmp_path):
    """(path, model) of a tiny log-Mel Conformer whose weights are all random."""
    return _randomised(tmp_path, attention_window=3)


@pytest.fixture
def one_layer(tmp_path):
    """The same with one layer."""
    return _randomised(tmp_path, num_layers=1)


@pytest.fixture
def transformer(tmp_path):
    """(path, model) of a tiny waveform Transformer."""
    return _randomised(tmp_path, settings=WAVEFORM, name="transformer")


@pytest.fixture
def batch():
    """Three utterances of different lengths: waveform and padding mask."""
    return waveform_batch(1.5, 1.1, 0.8)[:2]


def _randomised(folder, **settings):
    path = folder / "encoder.pt"
    model = write_birq_checkpoint(path, **settings).eval()
    torch.manual_seed(1)
    for parameter in model.speech_encoder.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.2)
    content = torch.load(str(path), weights_only=True)
    torch.save({**content, "model": model.state_dict()}, str(path))
    return path, model
