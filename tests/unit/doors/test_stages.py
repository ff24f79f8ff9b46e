"""Schedule `birq_stages` against fairseq's own in every stage, and what the optimizer forgets when a stage begins."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import PolynomialDecayLRSchedule, PolynomialDecayLRScheduleConfig
from omegaconf import OmegaConf

from fairseq_birq.config import StageScheduleConfig
from fairseq_birq.doors.stages import StageSchedule, begin_update, check_same_stages
from fairseq_birq.errors import UserError
from fairseq_birq.objective.heads import CodebookHeads
from fairseq_birq.patches.master_weights import renew_float32_copies
from tests.fixtures.models import batch, latent_rq

PEAK = 0.002


def adam(parameters=None):
    parameters = [torch.nn.Parameter(torch.ones(2))] if parameters is None else parameters
    return FairseqAdam(OmegaConf.structured(FairseqAdamConfig(adam_betas=(0.9, 0.98), lr=[PEAK], tpu=False)), parameters)


def schedule(optimizer=None, **settings):
    cfg = OmegaConf.structured(StageScheduleConfig(**{"total_num_update": 50, "warmup_updates": 4, **settings}))
    return StageSchedule(cfg, optimizer or adam())


def fairseqs(length, **settings):
    cfg = PolynomialDecayLRScheduleConfig(total_num_update=length, lr=[PEAK], **{"warmup_updates": 4, **settings})
    return PolynomialDecayLRSchedule(OmegaConf.structured(cfg), adam())


@pytest.mark.parametrize("settings", [{}, {"power": 2.0, "end_learning_rate": 1e-4}, {"warmup_updates": 0}])
def test_every_stage_is_fairseqs_polynomial_decay_bit_for_bit(settings):
    ours = schedule(target_updates=[10, 30], **settings)
    for start, end in ((0, 10), (10, 30), (30, 50)):
        theirs = fairseqs(end - start, **settings)
        for update in range(start, end):
            assert ours.step_update(update) == theirs.step_update(update - start), update
    assert ours.step_update(50) == ours.step_update(70) == settings.get("end_learning_rate", 0.0)
    assert ours.optimizer.get_lr() == ours.step_update(70)


def test_lengths_of_stages_can_be_given_and_restarts_switched_off():
    long, theirs = schedule(target_updates=[10], stage_updates=[100]), fairseqs(100)
    assert [long.lr_at(update) for update in (9, 10, 49)] == [theirs.step_update(update) for update in (9, 0, 39)]
    each, second = schedule(target_updates=[10], stage_updates=[8, 20]), fairseqs(20)
    assert each.lr_at(9) == 0.0 and each.lr_at(25) == second.step_update(15)
    one, whole = schedule(target_updates=[10], restart_schedule=False), fairseqs(50)
    assert [one.lr_at(update) for update in range(50)] == [whole.step_update(update) for update in range(50)]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"target_updates": [30, 10]}, "`lr_scheduler.target_updates` is [30, 10]"),
        ({"target_updates": [10, 20], "stage_updates": [5, 5]}, "has 2 lengths for 3 stages"),
        ({"target_updates": [3]}, "must be less than each stage's length, [3, 47]"),
        ({"target_updates": [60]}, "total_num_update"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, message, caplog):
    with pytest.raises(SystemExit):
        schedule(**settings)
    assert message in caplog.text


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def step(model, optimizer, update):
    optimizer.zero_grad()
    begin_update(model, optimizer, update)
    optimizer.backward(model(**batch([1.5, 1.0])).loss)
    optimizer.step()


@pytest.mark.parametrize("reset", [True, False])
def test_moments_really_are_zero_after_a_refresh_and_only_then(reset):
    model = latent_rq(reset_optimizer=reset)  # refreshed at 3 and 6
    optimizer = adam(trained(model))
    steps = []
    for update in range(8):
        step(model, optimizer, update)
        state = list(optimizer.optimizer.state.values())
        assert len(state) == len(trained(model))
        steps.append(state[0]["step"])
        if steps[-1] == 1:  # one step from zero moments: (0.1 g)^2 / 0.02 g^2
            averages = [(s["exp_avg"].double().square(), s["exp_avg_sq"].double()) for s in state]
            assert all(torch.allclose(first, 0.5 * second, rtol=1e-4, atol=1e-30) for first, second in averages)
    assert steps == ([1, 2, 3, 1, 2, 3, 1, 2] if reset else [1, 2, 3, 4, 5, 6, 7, 8])


def test_step_counts_of_parameter_groups_are_cleared_too():
    model = latent_rq()
    optimizer = adam(trained(model))
    optimizer.param_groups[0]["step"] = 5
    begin_update(model, optimizer, 3)
    assert "step" not in optimizer.param_groups[0]


def test_a_schedule_of_other_stages_is_refused():
    model = latent_rq()
    with pytest.raises(UserError, match=r"`lr_scheduler.target_updates` is \[3, 7\].*`model.targets.snapshot.target_updates`"):
        check_same_stages(model, schedule(target_updates=[3, 7], warmup_updates=1))
    check_same_stages(model, schedule(target_updates=[3, 6], warmup_updates=1))
    check_same_stages(model, fairseqs(50))
    check_same_stages(latent_rq(use=["raw_input"]), schedule(target_updates=[3, 7], warmup_updates=1))


def half_optimizer(parameters, **common):
    cfg = OmegaConf.structured(FairseqConfig)
    optimizer = {"_name": "adam", "adam_betas": "(0.9,0.98)", "lr": [PEAK], "tpu": False}
    parts = {"common": common, "optimizer": optimizer, "distributed_training": {"distributed_world_size": 1}}
    return FP16Optimizer.build_optimizer(OmegaConf.merge(cfg, parts), parameters)


def test_new_heads_reach_the_float32_copies_that_bf16_trains():
    model = latent_rq().to(torch.bfloat16)
    optimizer = half_optimizer(trained(model), bf16=True)
    for update in range(3):
        step(model, optimizer, update)
    before = [copy.clone() for copy in optimizer.fp32_params]
    begin_update(model, optimizer, 3)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    heads = {name: copy for name, copy in zip(names, optimizer.fp32_params) if name.startswith("heads.")}
    expected = CodebookHeads(16, 40, 2)
    expected.redraw(model.seed, 1)
    expected.to(torch.bfloat16)
    assert heads.keys() == {f"heads.snapshot.{name}" for name, _ in expected.named_parameters()}
    for name, parameter in expected.named_parameters():
        copy = heads[f"heads.snapshot.{name}"]
        assert torch.equal(copy.bfloat16(), parameter)
        assert (copy == parameter.float()).double().mean() > 0.99  # here and there an old value rounds to the new one
    for name, old, copy in zip(names, before, optimizer.fp32_params):
        assert torch.equal(old, copy) or name in heads
    assert any(not torch.equal(old.bfloat16().float(), old) for old in before)  # there was precision to lose
    optimizer.set_lr(0.0)
    step(model, optimizer, 3)
    assert torch.equal(model.heads["snapshot"].weight, expected.weight)


def test_an_fp16_update_that_overflows_at_a_target_update_is_made_again_in_the_new_stage():
    model = latent_rq().half()
    optimizer = half_optimizer(trained(model), fp16=True, fp16_no_flatten_grads=True, fp16_init_scale=4)
    seen = []
    for update, overflows in ((0, False), (1, False), (2, False), (3, True), (3, False), (4, False)):
        optimizer.zero_grad()
        begin_update(model, optimizer, update)
        heads = model.heads["snapshot"].weight.clone()
        optimizer.backward(model(**batch([1.5, 1.0])).loss / 20 * (float("inf") if overflows else 1))
        try:
            optimizer.clip_grad_norm(5.0)
            optimizer.step()
        except OverflowError:
            optimizer.zero_grad()
        seen.append((model.staged.stage, next((state["step"] for state in optimizer.optimizer.state.values()), 0), heads))
        for parameter, copy in zip(trained(model), optimizer.fp32_params):
            assert parameter.dtype == torch.float16 and torch.equal(copy.half(), parameter)
    assert [stage for stage, _, _ in seen] == [0, 0, 0, 1, 1, 1]
    assert [steps for _, steps, _ in seen] == [1, 2, 3, 0, 1, 2]
    assert torch.equal(seen[3][2], seen[4][2]) and not torch.equal(seen[2][2], seen[3][2])  # new heads, once


def test_float32_copies_in_one_flat_tensor_follow_too():
    """As fp16 keeps them on a GPU."""
    parameters = [torch.nn.Parameter(torch.randn(*shape).half()) for shape in ((3, 4), (5,))]
    flat = torch.cat([parameter.detach().float().flatten() for parameter in parameters]) + 1e-6
    before = flat.clone()
    optimizer = SimpleNamespace(fp16_params=parameters, fp32_params={None: torch.nn.Parameter(flat)})
    with torch.no_grad():
        parameters[1].copy_(torch.arange(5))
    renew_float32_copies(optimizer)
    assert torch.equal(flat[:12], before[:12]) and torch.equal(flat[12:], torch.arange(5.0))


def test_a_model_without_stages_is_left_alone():
    model = latent_rq(use=["raw_input"])
    optimizer = adam(trained(model))
    schedule(optimizer, target_updates=[3], warmup_updates=1)  # a baseline whose learning rate restarts all the same
    for update in range(5):
        step(model, optimizer, update)
    assert all(state["step"] == 5 for state in optimizer.optimizer.state.values())
