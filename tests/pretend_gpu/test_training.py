"""Every method's debug recipe through fairseq's command, on the pretend GPU: no mixed devices, and the CPU's numbers.

Codes are equal to the CPU's; losses are sums in another order there (blocks, heads at once), so they agree to float32's rounding.
"""

import contextlib
import json
import logging

import pytest
import torch
import yaml
from fairseq.dataclass.configs import FairseqConfig
from fairseq.logging import metrics
from fairseq_cli.train import main
from omegaconf import OmegaConf

import fairseq_birq.doors  # noqa: F401
from tests.fixtures.labels import write_labels
from tests.fixtures.manifests import write_manifest
from tests.fixtures.on_device import fairseq_on

UPDATES = 4
STAGES = {
    "lr_scheduler": {"target_updates": [2], "warmup_updates": 1},
    "model": {"targets": {"snapshot": {"target_updates": [2]}, "moving_average": {"layers": [1]}}},
}
RECIPES = {
    "best_rq": {"task": {"probe_every": 2, "probe_utterances": 4}},
    "birq": {"criterion": {"log_grad_every": 2}, "model": {"targets": {"own_layer": {"diversity_weight": 0.1}}}},
    "latent_rq": STAGES,
    "relabelling": {},
    "finetune": {},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    texts = ["a cab", "bad dad", "a bad cab", "dad"]
    write_manifest(folder, "train", seconds=[1.0, 1.5, 1.2, 1.4], texts=texts)
    write_manifest(folder, "valid", seconds=[1.0, 1.5, 1.2, 0.8], texts=texts)
    rows = "".join(f"{row}\tx\t0.0\t0.4\ta\n{row}\tx\t0.4\t0.8\tb\n" for row in range(4))
    (folder / "valid.phn").write_text("utt_index\tpath\tstart_s\tend_s\tphone\n" + rows)
    for split in ("train", "valid"):
        write_labels(folder / "labels" / split, folder / f"{split}.tsv", num_codebooks=2, codebook_size=64)
    return folder


@pytest.fixture
def train(repository, corpus, tmp_path, caplog):
    """Train a debug recipe: what fairseq logged of every update and validation, and the last checkpoint."""

    def train(recipe, name, *changes, device=None, max_update=UPDATES):
        content = yaml.safe_load((repository / "examples" / recipe / "debug.yaml").read_text())
        fixed = {
            "common": {"user_dir": None, "cpu": True, "log_interval": 1},
            "checkpoint": {"save_dir": str(tmp_path / name)},
            "task": {"data": str(corpus), **({} if recipe == "finetune" else {"probe_alignment": str(corpus / "valid.phn")})},
            "dataset": {"max_tokens": 48000, "validate_interval_updates": 2},
            "optimization": {"max_update": max_update},
            "model": {"encoder": {"dropout": 0.0, "attention_dropout": 0.0}},
        }
        if recipe == "relabelling":
            fixed["model"]["targets"] = {"label_file": {"path": str(corpus / "labels")}}
        caplog.clear()
        metrics.reset()
        with caplog.at_level(logging.INFO), fairseq_on(device) if device else contextlib.nullcontext():
            main(OmegaConf.merge(OmegaConf.structured(FairseqConfig), content, fixed, RECIPES[recipe], *changes))
        logged = [json.loads(r.getMessage()) for r in caplog.records if r.name in ("train_inner", "valid")]
        last = torch.load(str(tmp_path / name / "checkpoint_last.pt"), map_location="cpu", weights_only=True)
        return [{key: value for key, value in one.items() if is_compared(key)} for one in logged], last

    return train


def is_compared(key):
    """Not times, and not the best validation of the process, which fairseq keeps from one run to the next."""
    return not any(part in key for part in ("wall", "seconds", "wps", "ups", "gb_free", "clip", "best"))


def assert_close(ours, cpus):
    """What was logged. A frame whose two best codes are equal to float32's last digits may have either of them."""
    assert len(ours) == len(cpus) and ours
    for mine, theirs in zip(ours, cpus):
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            of_few_frames = any(part in key for part in ("accuracy", "sampled", "churn", "probe", "entropy", "perplexity"))
            if value not in (None, "null"):
                assert float(mine[key]) == pytest.approx(float(value), rel=2e-2 if of_few_frames else 2e-4, abs=5e-2), key


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_mixes_no_devices_and_has_the_cpus_numbers(gpu, train, recipe):
    on_cpu, _ = train(recipe, "cpu")
    with gpu.recording() as record:
        on_device, last = train(recipe, "device", device=gpu.device)
    assert record.lines("mismatches") == {}
    assert record.totals()["launches"] > 500
    assert_close(on_device, on_cpu)
    assert last["optimizer_history"][-1]["num_updates"] == UPDATES


def assert_same(first, second, path=""):
    """What checkpoints hold of training, bit for bit."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            assert_same(first[key], second[key], f"{path}/{key}")
    else:
        assert torch.equal(first, second) if torch.is_tensor(first) else first == second, path


@pytest.mark.parametrize("precision", ["bf16", *(pytest.param(other, marks=pytest.mark.slow) for other in ("fp32", "fp16"))])
def test_a_run_stopped_around_a_target_update_goes_on_as_the_whole_one(gpu, train, precision):
    """Dropout is off: its random numbers are the device's own."""
    halves = {"fp32": {}, "bf16": {"bf16": True}, "fp16": {"fp16": True, "fp16_init_scale": 4, "fp16_no_flatten_grads": True}}
    mix = {"model": {"targets": {"use": ["raw_input", "snapshot", "moving_average"]}}, "common": halves[precision]}
    ends = {}
    for name, stops in (("whole", [UPDATES]), ("parts", [1, 2, UPDATES])):
        for stop in stops:
            with gpu.recording() as record:
                _, ends[name] = train("latent_rq", name, mix, device=gpu.device, max_update=stop)
            assert record.lines("mismatches") == {}
    for part in ("model", "last_optimizer_state"):
        assert_same(ends["parts"][part], ends["whole"][part])
