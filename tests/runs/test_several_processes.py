"""What several processes do together besides gradients: one index, and equal runs with either of fairseq's wrappers."""

import functools
import json
import re

import pytest
import torch
from torch import distributed

from fairseq_birq.data import manifest, manifest_index
from fairseq_birq.data.manifest import read_manifest
from tests.fixtures import runs
from tests.fixtures.commands import free_port
from tests.fixtures.runs import CONTEXT, settings, write_corpus


def read_and_note(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    manifest.INDEX_FROM_BYTES, build, built = 0, manifest_index._build, []
    manifest_index._build = lambda place, path: (built.append(str(place)), build(place, path))
    rows = len(read_manifest(folder / "train.tsv"))
    (folder / f"{rank}.json").write_text(json.dumps({"built": built, "rows": rows}))
    distributed.destroy_process_group()


def test_the_first_process_builds_the_index_and_the_others_read_it(tmp_path):
    (tmp_path / "train.tsv").write_text("/audio\n" + "".join(f"{row}.wav\t16000\n" for row in range(1000)))
    processes = [CONTEXT.Process(target=read_and_note, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [len(one["built"]) for one in found] == [1, 0] and [one["rows"] for one in found] == [1000, 1000]


@pytest.mark.parametrize("method", ["birq", *(pytest.param(other, marks=pytest.mark.slow) for other in ("best_rq", "latent_rq"))])
def test_both_wrappers_of_fairseq_train_alike(repository, tmp_path, method):
    """`pytorch_ddp`, which overlaps the exchange of gradients with backward, and `legacy_ddp`; across a target update."""
    corpus, ends, logged = write_corpus(tmp_path / "corpus"), {}, {}
    for wrapper in ("legacy_ddp", "pytorch_ddp"):
        changes = {"optimization": {"max_update": 6}, "criterion": {"log_grad_every": 2}}
        cfg = functools.partial(settings, repository, method, corpus, tmp_path / wrapper, changes)
        statuses, log = both_processes(cfg, tmp_path / wrapper, {"ddp_backend": wrapper})
        assert statuses == [0, 0], log[-3000:]
        ends[wrapper] = runs.state(tmp_path / wrapper)["model"]
        entries = [json.loads(line) for line in re.findall(r"train_inner \| (\{.*\})", log)]
        logged[wrapper] = [[float(entry[key]) for key in ("loss", "gnorm")] for entry in entries]
    assert len(logged["legacy_ddp"]) == 6 and logged["pytorch_ddp"] == [
        pytest.approx(one, rel=1e-3) for one in logged["legacy_ddp"]
    ]
    for name, value in ends["legacy_ddp"].items():
        if torch.is_tensor(value):
            assert torch.allclose(value, ends["pytorch_ddp"][name], rtol=1e-5, atol=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("unused, statuses", [(False, [1, 1]), (True, [0, 0])])
def test_skipped_layers_need_what_the_doctor_says(repository, tmp_path, unused, statuses):
    skipping = {"optimization": {"max_update": 6}, "model": {"encoder": {"layer_dropout": 0.5}}}
    cfg = functools.partial(settings, repository, "best_rq", write_corpus(tmp_path / "corpus"), tmp_path / "run", skipping)
    found, log = both_processes(cfg, tmp_path / "run", {"ddp_backend": "pytorch_ddp", "find_unused_parameters": unused})
    assert found == statuses and ("Expected to have finished reduction" in log) == (not unused), log[-3000:]


def both_processes(cfg, place, wrapper):
    """Exit statuses of two processes of a run, and what the first of them wrote. cfg: makes settings of changes."""
    both, port = [], free_port()
    for rank in range(2):
        parts = runs.gloo(rank, 2, port)
        parts["distributed_training"].update(wrapper)
        both.append(runs.start(cfg(parts), f"{place}{rank}.log", runs.without_device_ids))
    for process in both:
        process.join(240)
    with open(f"{place}0.log") as file:
        return [process.exitcode for process in both], file.read()
