"""Two and four processes against one on the joined batch, also of noisy input: gradients, statistics, snapshot, logged sums."""

import numpy as np
import pytest
import torch
from torch import distributed

from fairseq_birq.doors.criterion import BirqCriterion
from tests.fixtures.audio import write_audio
from tests.fixtures.models import REFRESH, averaging, batch, birq, build, latent_rq
from tests.fixtures.runs import CONTEXT

MODELS = {"best_rq": lambda: build().train(), "birq": birq, "latent_rq": latent_rq, "moving_average": averaging}
# in a forward: one for each source with statistics
COLLECTIVES = {"best_rq": 0, "birq": 1, "noisy_birq": 1, "latent_rq": 1, "moving_average": 1}
SECONDS = (2.0, 1.0, 1.5, 0.6)
ROWS = {1: [(0, 4)], 2: [(0, 1), (1, 4)], 4: [(0, 1), (1, 3), (3, 4), (4, 4)]}  # the fourth has an empty batch


def one_process(rank, world_size, method, folder):
    """Gradient per masked frame of all processes together, as fairseq makes it; what is left in the model."""
    torch.set_num_threads(1)
    if world_size > 1:
        store = f"file://{folder}/store{world_size}"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    model = noisy_birq(folder) if method == "noisy_birq" else MODELS[method]()
    model.set_num_updates(REFRESH)
    first, last = ROWS[world_size][rank]
    inputs = {key: value[first:last] for key, value in batch(SECONDS).items()}
    criterion = BirqCriterion(None, {}, {}, {}, 1, 0.0, 1, "warn").train()
    kinds, all_reduce = [], distributed.all_reduce
    distributed.all_reduce = lambda *args, async_op=False: (kinds.append(async_op), all_reduce(*args, async_op=async_op))[1]
    loss, masked, logged = criterion(model, {"id": inputs["ids"], "bad_audio": 0, "net_input": inputs})
    distributed.all_reduce = all_reduce
    assert len(kinds) == (0 if world_size == 1 else COLLECTIVES[method]) and all(kinds)  # none that the host waits for
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    sums = {key: torch.as_tensor(value).double() for key, value in sorted(logged.items())}
    total = torch.tensor(float(masked))
    if world_size > 1:
        for tensor in [*gradients.values(), *sums.values(), total]:
            distributed.all_reduce(tensor)
    names = [name for name, value in model.named_buffers() if value.is_floating_point()]
    state = model.state_dict()  # it takes in statistics that are still on their way
    buffers = {name: state[name].clone() for name in names if name in state}
    found = {"gradients": {name: value / total for name, value in gradients.items()}, "buffers": buffers, "sums": sums}
    torch.save({**found, "masked": masked}, f"{folder}/{world_size}.{rank}.pt")
    if world_size > 1:
        distributed.destroy_process_group()


def noisy_birq(folder):
    """All disturbances but overlap, whose partners are of the batch."""
    disturbance = {kind: {"prob": 0.7, "manifest": f"{folder}/{kind}.tsv"} for kind in ("noise", "reverberation")}
    targets = {"use": ["raw_input", "own_layer"], "own_layer": {"layers": [1], "score_scale": 5.0}}
    return build(targets=targets, disturbance={**disturbance, "volume": {"prob": 0.5}, "frequency_masks": {"count": 1}}).train()


def write_recordings(folder):
    random = np.random.default_rng(0)
    waves = {"noise": 0.2 * random.standard_normal(20000), "reverberation": np.append(0.9, 0.05 * random.standard_normal(2000))}
    for kind, wave in waves.items():
        write_audio(folder / f"{kind}.wav", wave)
        (folder / f"{kind}.tsv").write_text(f"{folder}\n{kind}.wav\t{len(wave)}\n")


def results(world_size, method, folder):
    processes = [CONTEXT.Process(target=one_process, args=(rank, world_size, method, folder)) for rank in range(world_size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0] * world_size
    return [torch.load(f"{folder}/{world_size}.{rank}.pt", weights_only=True) for rank in range(world_size)]


@pytest.mark.parametrize(
    "method", ["noisy_birq", "latent_rq", *(pytest.param(other, marks=pytest.mark.slow) for other in ("best_rq", "birq"))]
)
def test_processes_with_unequal_and_empty_batches_give_the_gradient_of_the_joined_batch(tmp_path, method):
    write_recordings(tmp_path)
    (joined,) = results(1, method, tmp_path)
    assert max(float(gradient.abs().max()) for gradient in joined["gradients"].values()) > 1e-3
    for world_size in (2, 4):
        parts = results(world_size, method, tmp_path)
        assert len({part["masked"] for part in parts}) == world_size
        assert sum(part["masked"] for part in parts) == joined["masked"]
        for part in parts:
            for kind in ("gradients", "buffers"):
                assert part[kind].keys() == joined[kind].keys()
                for name, value in joined[kind].items():
                    assert torch.allclose(part[kind][name], value, atol=1e-5, rtol=1e-4), (kind, name)
            assert part["sums"].keys() == joined["sums"].keys()
            realised = [name for name in joined["sums"] if name.startswith("disturbance.")]
            assert len(realised) == (7 if method == "noisy_birq" else 0)
            for name in ("loss", "sample_size", "num_frames", *realised):
                assert torch.allclose(part["sums"][name], joined["sums"][name], rtol=1e-5), name
