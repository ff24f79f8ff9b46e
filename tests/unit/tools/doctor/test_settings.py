"""What the doctor says of settings that start and then do harm."""

import pytest
import torch
import yaml
from fairseq.dataclass.configs import FairseqConfig
from omegaconf import OmegaConf

from fairseq_birq.config import BirqConfig, BirqCtcConfig
from fairseq_birq.tools.doctor import settings
from fairseq_birq.tools.doctor.settings import check_settings, check_shared_memory
from tests.fixtures.checkpoints import write_birq_checkpoint

MIB = 1 << 20
PLENTY = 1 << 50


@pytest.fixture(autouse=True)
def enough_shared_memory(monkeypatch):
    monkeypatch.setattr(settings, "shared_memory_bytes", lambda: PLENTY)


def cfg(model=BirqConfig, **changes):
    made = OmegaConf.structured(FairseqConfig)
    made.model = OmegaConf.structured(model)
    made.dataset.max_tokens, made.common.cpu, made.optimization.lr = 1_000_000, True, [5e-4]
    made.distributed_training.distributed_world_size = 1
    for key, value in changes.items():
        OmegaConf.update(made, key.replace("__", "."), value)
    return made


def lines(**changes):
    return [check.line() for check in check_settings(cfg(**changes))]


def test_an_ordinary_run_has_nothing_but_its_workers():
    (line,) = lines(dataset__num_workers=2)
    assert line.startswith("ok       workers")


def test_what_training_refuses_is_a_problem_before():
    first, second, _ = lines(common__amp=True, checkpoint__write_checkpoints_asynchronously=True)
    assert first.startswith("problem  settings     `common.amp` is set, but") and "write_checkpoints_asynchronously" in second


def test_a_schedule_that_cannot_be_made_is_a_problem():
    first, _ = lines(lr_scheduler={"_name": "polynomial_decay", "total_num_update": 0.0, "lr": [5e-4]})
    assert first.startswith("problem  settings     `lr_scheduler` (polynomial_decay) cannot be made")


@pytest.mark.parametrize(
    "kind, rate, warned", [("bf16", 1e-4, True), ("bf16", 4e-3, False), ("fp16", 1e-4, True), ("fp16", 1e-3, False)]
)
def test_rates_that_rounded_weights_lose_are_warned_of(kind, rate, warned):
    found = [
        line for line in lines(**{f"common__memory_efficient_{kind}": True, "optimization__lr": [rate]}) if "precision" in line
    ]
    assert len(found) == warned
    weight = torch.ones(1, dtype=torch.bfloat16 if kind == "bf16" else torch.float16)
    assert torch.equal(weight - rate, weight) == warned  # a norm's gain at the beginning of training


@pytest.mark.parametrize(
    "model, change",
    [(BirqConfig, {"model__encoder__layer_dropout": 0.1}), (BirqCtcConfig, {"model__freeze_encoder_updates": 10})],
)
@pytest.mark.parametrize(
    "backend, processes, unused, bad",
    [
        ("pytorch_ddp", 2, False, True),
        ("pytorch_ddp", 2, True, False),
        ("pytorch_ddp", 1, False, False),
        ("legacy_ddp", 2, False, False),
    ],
)
def test_parameters_without_a_gradient_need_a_wrapper_that_can(model, change, backend, processes, unused, bad):
    parts = {"ddp_backend": backend, "distributed_world_size": processes, "find_unused_parameters": unused}
    change = {**change, **{f"distributed_training__{key}": value for key, value in parts.items()}}
    found = [line for line in lines(model=model, **change) if line.startswith("problem")]
    assert len(found) == bad and all("ddp_backend=legacy_ddp, or find_unused_parameters=true" in line for line in found)
    plain = {key: value for key, value in change.items() if not key.startswith("model")}
    assert not [line for line in lines(model=model, **plain) if line.startswith("problem")]


def test_no_recipe_has_such_a_wrapper(repository):
    recipes = {path: yaml.safe_load(path.read_text()) for path in (repository / "examples").glob("*/*.yaml")}
    several = [one for one in recipes.values() if one.get("distributed_training", {}).get("distributed_world_size", 1) > 1]
    assert len(several) >= 10
    for one in several:
        one["distributed_training"] = {"find_unused_parameters": False, **one["distributed_training"]}
        assert settings._check_wrapper(OmegaConf.create(one)) == []


def test_batches_of_workers_must_fit_into_shared_memory():
    """4 workers with 2 batches each and 10 that fairseq holds, of a million samples of 8 bytes and a mask."""
    needed = (4 * 2 + 10) * 9_000_000
    (fits,) = check_shared_memory(cfg(dataset__num_workers=4), needed)
    (full,) = check_shared_memory(cfg(dataset__num_workers=4), needed - 1)
    assert (fits.status, full.status) == ("ok", "problem") and f"up to {needed / MIB:.0f} MiB" in full.text
    (of_two,) = check_shared_memory(cfg(dataset__num_workers=4, distributed_training__distributed_world_size=2), needed)
    assert of_two.status == "problem" and "for each of 2 processes" in of_two.text
    assert check_shared_memory(cfg(dataset__num_workers=0), 1) == []


def test_two_sample_rates_are_a_problem():
    found = lines(task={"sample_rate": 8000})
    assert "problem  sample rate  `task.sample_rate` is 8000, but `model.frontend.sample_rate` is 16000: make them equal" in found


def test_the_checkpoint_that_is_fine_tuned_has_the_rate(tmp_path):
    path = tmp_path / "any.pt"
    write_birq_checkpoint(path)
    given = cfg(
        model=BirqCtcConfig, task={"sample_rate": 8000}, model__pretrained_path=str(path), model__frontend__sample_rate=8000
    )
    content = OmegaConf.to_container(given, enum_to_str=True)
    content["model"]["_name"] = "birq_ctc"
    given = OmegaConf.create(content)
    assert f"but that of {path} is 16000" in " ".join(check.line() for check in check_settings(given))


def test_two_lengths_are_a_warning():
    found, *_ = lines(optimization__max_update=100, lr_scheduler={"total_num_update": 50})
    assert found.startswith("warning  settings     `lr_scheduler.total_num_update` is 50, but `optimization.max_update` is 100")
