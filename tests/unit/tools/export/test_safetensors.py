"""What is exported computes what the encoder does, whatever its settings, and is loaded without fairseq."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fairseq_birq
from fairseq_birq import load_encoder
from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.config import BirqConfig
from fairseq_birq.errors import UserError
from fairseq_birq.settings import from_dict
from fairseq_birq.tools.export.folder import export
from fairseq_birq.tools.export.traceable import TraceableEncoder
from tests.fixtures.checkpoints import tiny_config
from tests.fixtures.exports import assert_same

CHOICES = ("rotary", "relative"), (0, 3), ("utterance", "none")


@pytest.mark.parametrize("positions, window, feature_norm", list(itertools.product(*CHOICES)))
def test_every_setting_gives_the_same_hidden_states(positions, window, feature_norm, batch):
    encoder, frontend = dict(positions=positions, attention_window=window), dict(feature_norm=feature_norm)
    cfg = from_dict(BirqConfig, tiny_config(BirqConfig, encoder=encoder, frontend=frontend))
    ours = build_speech_encoder(cfg.frontend, cfg.encoder).eval()
    torch.manual_seed(1)
    for tensor in ours.parameters():
        torch.nn.init.normal_(tensor, mean=0.1, std=0.2)
    assert_same(ours(*batch), *TraceableEncoder(ours)(*batch))


def test_the_exported_folder_loads_without_fairseq(conformer, batch, tmp_path):
    path, model = conformer
    assert export(path, tmp_path / "out", "safetensors") == ["load.py", "model.safetensors"]
    torch.save(batch, tmp_path / "batch.pt")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(fairseq_birq.__file__).parent.parent)!r}); import torch, load; "
        "encoded = load.load()(*torch.load('../batch.pt')); "
        "print([name for name in sys.modules if name.split('.')[0] in ('fairseq', 'omegaconf', 'hydra', 'safetensors')]); "
        "torch.save((torch.stack([encoded.subsampled, *encoded.layers]), encoded.padding_mask), '../result.pt')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    with torch.no_grad():
        assert_same(model.speech_encoder(*batch), *torch.load(tmp_path / "result.pt"), atol=0)


def test_a_folder_of_an_earlier_version_is_read(conformer, tmp_path):
    """Its settings have fairseq's `_name`, and keys with one value left."""
    from safetensors.torch import load_file, save_file

    path, model = conformer
    export(path, tmp_path / "out", "safetensors")
    settings = {
        "frontend": {"_name": None, "name": "logmel", "subsampling": "conv1d"},
        "encoder": {"_name": None, **dict(num_layers=2, dim=16, ffn_dim=32, num_heads=2, conv_kernel=5, attention_window=3)},
    }
    old = tmp_path / "old.safetensors"
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    save_file(tensors, old, {"config": json.dumps(settings), "format": "pt"})
    state = load_encoder(old).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.speech_encoder.state_dict().items())
    settings["encoder"]["conv_norm"] = "batch"
    save_file(tensors, old, {"config": json.dumps(settings), "format": "pt"})
    with pytest.raises(UserError, match="conv_norm: batch.* 0.1.0 is the last version that has it"):
        load_encoder(old)


def test_a_damaged_file_is_named(conformer, tmp_path):
    export(conformer[0], tmp_path / "out", "safetensors")
    content = (tmp_path / "out" / "model.safetensors").read_bytes()
    for number, damaged in enumerate([b"", content[:100], content[:-5000], b"\xff" * 8 + content[8:], b"x" * 5000]):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{number}.safetensors is not what `birq-export"):
            load_encoder(path)
    with pytest.raises(UserError, match="nowhere.safetensors does not exist"):
        load_encoder(tmp_path / "nowhere.safetensors")
