"""Optimizer `birq_adamw` against fairseq's `adam`: same numbers, same state, one goes on where the other stopped."""

import copy

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.optim import FP16Optimizer, build_optimizer
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig
from fairseq.optim.fp16_optimizer import MemoryEfficientFP16Optimizer
from omegaconf import OmegaConf

from fairseq_birq.doors.optimizer import BirqAdamW
from fairseq_birq.errors import UserError
from fairseq_birq.patches.bad_updates import _forget_factor
from fairseq_birq.patches.grouped_copies import GroupedFP16Optimizer, group_copies
from fairseq_birq.training import adamw
from fairseq_birq.training.stages import clear_state

SETTINGS = dict(adam_betas="(0.9,0.98)", adam_eps=1e-6, weight_decay=0.1, lr=[0.01], tpu=False)
SHAPES = [(3, 4), (5,), (1,), (), (2, 3, 2)]


def parameters(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def gradients(params, step):
    """Of very different sizes, also as small as eps."""
    generator = torch.Generator().manual_seed(100 + step)
    for index, param in enumerate(params):
        param.grad = (torch.randn(param.shape, generator=generator) * 10.0 ** -(2 * index)).to(param.dtype)


def config(name="birq_adamw", **changes):
    return OmegaConf.create(
        {**OmegaConf.to_container(OmegaConf.structured(FairseqAdamConfig(**{**SETTINGS, **changes}))), "_name": name}
    )


def build(name, params, **changes):
    return build_optimizer(config(name, **changes), params)


def run(optimizer, params, steps):
    for step in steps:
        gradients(params, step)
        optimizer.step()


@pytest.fixture(params=["fused", "foreach"])
def kernel(request, monkeypatch):
    if request.param == "foreach":
        monkeypatch.setattr(adamw, "_fused_devices", lambda: [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_five_steps_are_those_of_fairseqs_adam(kernel, dtype, weight_decay):
    ours, theirs = parameters(dtype), parameters(dtype)
    run(build("birq_adamw", ours, weight_decay=weight_decay), ours, range(5))
    run(build("adam", theirs, weight_decay=weight_decay), theirs, range(5))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-7  # torch's kernel divides by float32 corrections
    for a, b, start in zip(ours, theirs, parameters(dtype)):
        assert not torch.equal(a, start)
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("first, second", [("adam", "birq_adamw"), ("birq_adamw", "adam")])
def test_one_goes_on_where_the_other_stopped(kernel, first, second):
    whole = parameters()
    run(build("adam", whole), whole, range(6))
    params = parameters()
    before = build(first, params)
    run(before, params, range(3))
    state = copy.deepcopy(before.state_dict())
    after = build(second, params, lr=[0.5])
    after.load_state_dict(state, {"lr": 0.01})
    run(after, params, range(3, 6))
    for a, b in zip(params, whole):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_the_state_is_fairseqs():
    states = []
    for name in ("adam", "birq_adamw"):
        params = parameters()
        optimizer = build(name, params)
        run(optimizer, params, range(2))
        states.append(optimizer.state_dict())
    theirs, ours = states
    assert ours["param_groups"] == theirs["param_groups"]
    for index, state in theirs["state"].items():
        assert set(ours["state"][index]) == set(state) and ours["state"][index]["step"] == state["step"] == 2
        torch.testing.assert_close(ours["state"][index]["exp_avg_sq"], state["exp_avg_sq"])


def test_a_state_of_apex_counts_steps_per_group():
    params = parameters()
    optimizer = build("birq_adamw", params)
    run(optimizer, params, range(3))
    state = optimizer.state_dict()
    for one in state["state"].values():
        del one["step"]
    state["param_groups"][0]["step"] = 3
    optimizer.load_state_dict(state)
    assert all(one["step"] == 3 for one in optimizer.optimizer.state.values())
    assert "step" not in optimizer.param_groups[0]


def test_a_state_of_another_optimizer_is_refused():
    params = parameters()
    optimizer = build("birq_adamw", params)
    state = {"state": {0: {"momentum_buffer": torch.ones(3, 4)}}, "param_groups": optimizer.state_dict()["param_groups"]}
    with pytest.raises(UserError, match="reset_optimizer"):
        optimizer.load_state_dict(state)


def test_parameters_without_a_gradient_rest_and_keep_their_own_count():
    ours, theirs = parameters(), parameters()
    for name, params in (("birq_adamw", ours), ("adam", theirs)):
        optimizer = build(name, params)
        for step in range(4):
            gradients(params, step)
            if step % 2:
                params[0].grad = None
            optimizer.step()
        assert [optimizer.optimizer.state[param]["step"] for param in params] == [2, 4, 4, 4, 4]
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("max_norm", [0.0, 0.1, 100.0])
def test_the_norm_and_the_clipped_gradients_are_fairseqs(max_norm):
    norms, grads = [], []
    for name in ("birq_adamw", "adam"):
        params = parameters()
        optimizer = build(name, params)
        gradients(params, 0)
        params[1].grad = None
        norms.append(optimizer.clip_grad_norm(max_norm))
        optimizer.multiply_grads(0.5)
        grads.append([param.grad for param in params if param.grad is not None])
    torch.testing.assert_close(*norms)
    assert norms[0].dtype == torch.float32 and norms[0].shape == ()
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_no_gradients_have_no_norm():
    assert float(build("birq_adamw", parameters()).clip_grad_norm(1.0)) == 0.0


def test_half_precision_weights_are_stepped_by_fairseqs_adam():
    ours, theirs = parameters(torch.bfloat16), parameters(torch.bfloat16)
    optimizer = build("birq_adamw", ours)
    assert optimizer.supports_memory_efficient_fp16
    run(optimizer, ours, range(3))
    run(build("adam", theirs), theirs, range(3))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
    assert isinstance(MemoryEfficientFP16Optimizer.build_optimizer(fairseq_config("bf16"), ours).optimizer, torch.optim.Optimizer)


def test_fp16_statistics_are_refused():
    with pytest.raises(UserError, match="fp16_adam_stats"):
        build("birq_adamw", parameters(), fp16_adam_stats=True)


def test_a_checkpoint_of_adam_names_the_same_optimizer():
    """fairseq compares the class names of a run and of its checkpoint."""
    assert BirqAdamW.__name__ == FairseqAdam.__name__ and GroupedFP16Optimizer.__name__ == FP16Optimizer.__name__


# ---- the float32 copies


def fairseq_config(precision, flat=False, name="birq_adamw"):
    cfg = OmegaConf.structured(FairseqConfig())
    OmegaConf.set_struct(cfg, False)
    cfg.optimizer = config(name)
    cfg.common[precision] = True
    cfg.common.fp16_no_flatten_grads, cfg.common.fp16_init_scale = not flat, 4
    cfg.distributed_training.distributed_world_size = 1
    return cfg


KINDS = {"bf16": ("bf16", False), "fp16": ("fp16", False), "fp16 flat": ("fp16", True)}


@pytest.fixture(params=KINDS)
def fp16(request, monkeypatch):
    """Builds fairseq's optimizer of half-precision parameters, whose copies are grouped or not."""
    precision, flat = KINDS[request.param]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)  # the index of the CPU, for fairseq's flat copies

    def build_fp16(params, grouped, name="birq_adamw"):
        optimizer = FP16Optimizer.build_optimizer(fairseq_config(precision, flat, name), params)
        if grouped:
            group_copies(optimizer)
            assert type(optimizer) is GroupedFP16Optimizer
        return optimizer

    build_fp16.dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return build_fp16


def updates(optimizer, params, count=4, first=0):
    """fairseq's order of calls; one parameter has no gradient in one update, and one update is given up."""
    for step in range(first, first + count):
        optimizer.zero_grad()
        loss = sum(
            (param.float() * (index + step + 1)).square().sum() for index, param in enumerate(params) if index or step != 1
        )
        optimizer.backward(loss)
        optimizer.multiply_grads(1 / 7.0)
        norm = optimizer.clip_grad_norm(3.0)
        if step == 2:
            optimizer.zero_grad()
            _forget_factor(optimizer)
            continue
        optimizer.step()
    return norm


def test_grouped_copies_change_nothing(fp16):
    results = []
    for grouped in (False, True):
        params = parameters(fp16.dtype)
        optimizer = fp16(params, grouped)
        norm = updates(optimizer, params)
        results.append([norm, *params, *[copy for _, copy in sorted_state(optimizer)]])
    assert len(results[0]) == len(results[1]) > len(SHAPES) + 1
    for a, b in zip(*results):
        assert torch.equal(a, b)


def sorted_state(optimizer):
    states = sorted(optimizer.state_dict()["state"].items())
    return [(key, value) for _, state in states for key, value in state.items() if torch.is_tensor(value)]


def test_half_precision_runs_of_adam_go_on(fp16):
    whole = parameters(fp16.dtype)
    updates(fp16(whole, grouped=False, name="adam"), whole, 6)
    params = parameters(fp16.dtype)
    before = fp16(params, grouped=False, name="adam")
    updates(before, params, 3)
    state = copy.deepcopy(before.state_dict())
    after = fp16(params, grouped=True)
    after.load_state_dict(state)
    copies = [before.fp32_params, after.fp32_params]
    for old, new in zip(*[list(c.values()) if isinstance(c, dict) else c for c in copies]):
        new.data.copy_(old.data)
    updates(after, params, 3, first=3)
    for a, b in zip(params, whole):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)


def test_a_step_without_a_backward_pass_takes_no_stale_gradient(fp16):
    params = parameters(fp16.dtype)
    optimizer = fp16(params, grouped=True)
    optimizer.zero_grad()
    optimizer.backward(sum(param.float().square().sum() for param in params))
    optimizer.clip_grad_norm(0.0)
    optimizer.zero_grad()
    assert float(optimizer.clip_grad_norm(0.0)) == 0.0


def test_a_new_stage_clears_the_state(fp16):
    params = parameters(fp16.dtype)
    optimizer = fp16(params, grouped=True)
    updates(optimizer, params)
    clear_state(optimizer.optimizer)
    assert not optimizer.state_dict()["state"]
    updates(optimizer, params, 1)
    assert all(state["step"] == 1 for state in optimizer.state_dict()["state"].values())
