"""Stages of `benchmarks/gpu.py`: does a GPU compute what the CPU computes, and does a bad update cost itself alone?"""

import os
import platform
import subprocess
import sys
from functools import partial

import torch
from gpu_setup import REPOSITORY, Check, bad_in, build_trainer, make_batch, update
from torch.nn import functional as F

PRECISIONS = {"fp32": [], "bf16": ["++common.bf16=true"], "fp16": ["++common.fp16=true"]}
PRECISIONS["memory_efficient_bf16"] = ["++common.bf16=true", "++common.memory_efficient_bf16=true"]
NO_DROPOUT = ["++model.encoder.dropout=0.0", "++model.encoder.attention_dropout=0.0", "++model.encoder.layer_dropout=0.0"]
METHODS = {"best_rq": [], "birq": [], "latent_rq": [], "birq, relative positions": ["++model.encoder.positions=relative"]}
TRIED_WHEN_TINY = [("birq", "bf16"), ("best_rq", "fp32")]
METHODS["birq, recomputed"] = ["++model.encoder.checkpoint_activations=true"]


def environment(check: Check) -> None:
    apex = __import__("importlib.util", fromlist=["util"]).find_spec("apex") is not None
    found = dict(torch=torch.__version__, python=platform.python_version(), cores=os.cpu_count(), apex=apex)
    found.update(tf32=torch.backends.cuda.matmul.allow_tf32, tf32_override=os.environ.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"))
    if check.cuda:
        gpu = torch.cuda.get_device_properties(0)
        found.update(gib=round(gpu.total_memory / 2**30, 1), cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version())
    check.note(**found)


def correctness(check: Check) -> None:
    """One batch of each method: codes, loss and gradients on the CPU in float32, against the device in each precision."""
    for method in ("birq",) if check.tiny else ("best_rq", "birq", "latent_rq"):
        check.tried(method, partial(against_the_cpu, check, method))
    check.tried("quantizer", partial(quantizer, check))


def against_the_cpu(check: Check, method: str) -> dict:
    cfg = check.recipe(f"{method}/debug.yaml", *NO_DROPOUT)
    trainer = build_trainer(cfg, num_updates=0)
    inputs, start = make_batch(trainer, 3)["net_input"], trainer.model.state_dict()
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    want, found = one_step(trainer.task, cfg, start, inputs, "cpu", torch.float32), {}
    for name, dtype in types.items():
        got = one_step(trainer.task, cfg, start, inputs, check.device, dtype)
        equal = {source: float((got["codes"][source] == codes).float().mean()) for source, codes in want["codes"].items()}
        cosine = float(F.cosine_similarity(want["gradient"], got["gradient"], 0))
        found[name] = dict(same_mask=got["masked"] == want["masked"], codes_equal=equal, gradient_cosine=cosine)
        found[name]["loss_difference"] = got["loss"] - want["loss"]
    return found


def one_step(task, cfg, state, inputs, device, dtype) -> dict:
    """Codes of each source, loss and gradient of a model with these weights; on a GPU the targets are from the second update."""
    torch.manual_seed(1)
    model = task.build_model(cfg.model)
    model.load_state_dict({key: value for key, value in state.items()})
    model = model.to(dtype).to(device).train()
    model.set_num_updates(5)
    output = model(**{key: value.to(device) if torch.is_tensor(value) else value for key, value in inputs.items()})
    output.loss.backward()
    gradients = [parameter.grad.float().flatten().cpu() for parameter in model.parameters() if parameter.grad is not None]
    codes = {name: term.codes.cpu() for name, term in output.terms.items()}
    return dict(masked=output.num_masked, codes=codes, loss=float(output.loss), gradient=torch.cat(gradients))


def quantizer(check: Check) -> dict:
    """Codes against a search in float64 on the CPU, with TF32 off and on."""
    from fairseq_birq.objective.quantizer import RandomProjectionQuantizer

    frames, codes = (200, 64) if check.tiny else (6400, 8192)
    x = torch.randn(frames, 320, generator=torch.Generator().manual_seed(0))
    ours = RandomProjectionQuantizer(320, codes, 16, 1, seed=1)
    projected = F.normalize(x.double() @ ours.projection[0].double(), dim=-1)
    want = (projected @ F.normalize(ours.codebook[0].double(), dim=-1).t()).argmax(-1)
    ours, found, before = ours.to(check.device), {}, torch.backends.cuda.matmul.allow_tf32
    for name, tf32 in (("codes_equal", False), ("codes_equal_with_tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        found[name] = float((ours.nearest(x.to(check.device))[:, 0].cpu() == want).float().mean())
    torch.backends.cuda.matmul.allow_tf32 = before
    return found


def precisions(check: Check) -> None:
    """Seven updates of each method in each precision; the loss of the third is not a number."""
    for method, changes in METHODS.items():
        for precision, flags in PRECISIONS.items():
            if check.tiny and (method, precision) not in TRIED_WHEN_TINY:
                continue
            name, overrides = f"{method.split(',')[0]}/debug.yaml", [*flags, *changes]
            check.tried(f"{method}, {precision}", partial(losses_with_a_bad_update, check, name, overrides))


def losses_with_a_bad_update(check: Check, name: str, overrides) -> dict:
    trainer = build_trainer(check.recipe(name, *overrides), num_updates=0)
    with bad_in(trainer, {2}):
        losses = [update(trainer, make_batch(trainer, 2 + number % 2)) for number in range(4 if check.tiny else 7)]
    finite = all(bool(torch.isfinite(parameter).all()) for parameter in trainer.model.parameters())
    return dict(losses=[loss and round(loss, 3) for loss in losses], weights_finite=finite)


def tests(check: Check) -> None:
    """The project's tests with the marker `gpu`; of those that resume a run, the one in bf16."""
    if not check.cuda:
        return check.note(skipped="they need a GPU: pytest -m gpu tests/runs/test_gpu.py")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-k",
        "codes or gradients or (resuming and bf16)",
        "tests/runs/test_gpu.py",
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=check.left()
    )
    check.note(status=done.returncode, last_lines=done.stdout.strip().splitlines()[-12:])
