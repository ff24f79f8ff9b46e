"""The stand-alone loader computes what the encoder does, whatever its settings, and imports nothing but torch."""

import itertools
import re
import subprocess
import sys

import pytest
import torch

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.config import BirqConfig
from fairseq_birq.tools.export import standalone
from fairseq_birq.tools.export.folder import export
from fairseq_birq.tools.export.safetensors import standalone_encoder
from tests.fixtures.synth import tiny_config

CHOICES = ("rotary", "relative"), ("layer", "batch"), ("conv1d", "conv2d"), (0, 3), ("utterance", "none")


@pytest.mark.parametrize("positions, conv_norm, subsampling, window, feature_norm", list(itertools.product(*CHOICES)))
def test_every_setting_gives_the_same_hidden_states(positions, conv_norm, subsampling, window, feature_norm, batch):
    encoder = dict(positions=positions, conv_norm=conv_norm, attention_window=window)
    frontend = dict(subsampling=subsampling, feature_norm=feature_norm)
    cfg = tiny_config(BirqConfig, encoder=encoder, frontend=frontend)
    ours = build_speech_encoder(cfg.frontend, cfg.encoder).eval()
    torch.manual_seed(1)
    for tensor in ours.parameters():
        torch.nn.init.normal_(tensor, mean=0.1, std=0.2)
    for name, tensor in ours.named_buffers():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    assert_same(ours(*batch), *standalone_encoder(ours, cfg)(*batch))


def assert_same(expected, hidden, padding_mask, atol=1e-5):
    """Layers, input included, at valid frames."""
    assert torch.equal(padding_mask, expected.padding_mask)
    layers = [expected.subsampled, *expected.layers]
    assert len(hidden) == len(layers)
    for mine, theirs in zip(layers, hidden):
        assert torch.allclose(mine[~padding_mask], theirs[~padding_mask], atol=atol)


def test_the_exported_file_loads_without_this_package(conformer, batch, tmp_path):
    path, model = conformer
    assert export(path, tmp_path / "out", "safetensors") == ["model.safetensors", "standalone.py"]
    torch.save(batch, tmp_path / "batch.pt")
    code = (
        "import sys, torch, standalone; encoder = standalone.load('model.safetensors'); "
        "print([name for name in sys.modules if name.split('.')[0] in ('fairseq', 'fairseq_birq', 'omegaconf', 'safetensors')]); "
        "torch.save(encoder(*torch.load('../batch.pt')), '../result.pt')"
    )
    done = subprocess.run([sys.executable, "-E", "-c", code], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    with torch.no_grad():
        assert_same(model.speech_encoder(*batch), *torch.load(tmp_path / "result.pt"))


def test_it_is_a_short_file_that_imports_torch_alone():
    text = open(standalone.__file__).read()
    assert set(re.findall(r"^(?:from|import) (\w+)", text, re.M)) == {"json", "torch"}
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 200
