import math
from pathlib import Path
from types import SimpleNamespace

import pytest

import fairseq_birq
from fairseq_birq.tools.doctor import folders, memory
from fairseq_birq.tools.doctor.peak import peak_bytes, reset_peak

MIB = 1 << 20


def config(max_update=1000, **checkpoint):
    settings = dict(save_dir="/", no_save=False, no_last_checkpoints=False, keep_best_checkpoints=-1, no_epoch_checkpoints=True)
    settings.update(keep_last_epochs=-1, save_interval_updates=0, keep_interval_updates=-1, restore_file="checkpoint_last.pt")
    return SimpleNamespace(
        checkpoint=SimpleNamespace(**{**settings, **checkpoint}),
        optimization=SimpleNamespace(max_update=max_update, max_epoch=0, update_freq=[2]),
        common=SimpleNamespace(user_dir=str(Path(fairseq_birq.__file__).parent), cpu=True, fp16=False, bf16=False),
        distributed_training=SimpleNamespace(distributed_world_size=2, ddp_backend="legacy_ddp", gradient_as_bucket_view=False),
    )


def found(points, full=100000, longest=20000):
    return {"points": points, "full_samples": full, "longest_samples": longest}


def check(points, available, **sizes):
    return memory.check_memory(config(), found(points, **sizes), available, "free")


def test_the_line_through_two_points_is_exact():
    fixed, slope = memory.fit([[1000, 5000 + 7 * 1000, 1.0], [4000, 5000 + 7 * 4000, 1.0]])
    assert (fixed, slope) == (5000, 7)
    assert memory.fit([[10, 1, 1.0], [1000, 5000 + 7 * 1000, 1.0], [4000, 5000 + 7 * 4000, 1.0]]) == (5000, 7)


def test_the_proposed_batch_fits_and_a_larger_one_does_not():
    points = [[20000, 100 * MIB + 20000 * 1000, 1.0], [100000, 100 * MIB + 100000 * 1000, 1.0]]
    (fits,) = check(points, 300 * MIB)
    most = int(fits.text.split("dataset.max_tokens up to ")[1].split()[0])
    assert fits.status == "ok" and 100 * MIB + most * 1000 <= 270 * MIB < 100 * MIB + (most + 10000) * 1000
    (too_large,) = check(points, 180 * MIB)
    assert too_large.status == "problem" and "dataset.max_tokens=60000 fits" in too_large.text
    (hopeless,) = check(points, 110 * MIB)
    assert hopeless.status == "problem" and "not even the longest utterance" in hopeless.text
    (tight,) = check(points, 200 * MIB)
    assert tight.status == "warning"


@pytest.mark.parametrize(
    "backend, processes, bf16, mib",
    [("legacy_ddp", 2, True, 100), ("legacy_ddp", 2, False, 200), ("legacy_ddp", 1, True, 0), ("pytorch_ddp", 8, True, 100)],
)
def test_what_several_processes_need_beside_one_counts(backend, processes, bf16, mib):
    cfg, points = config(), [[20000, 120 * MIB, 1.0], [100000, 200 * MIB, 1.0]]
    cfg.distributed_training.ddp_backend, cfg.distributed_training.distributed_world_size = backend, processes
    cfg.common.bf16 = bf16
    (check,) = memory.check_memory(cfg, {**found(points), "parameters": 50 * MIB}, 10**4 * MIB, "free")
    assert check.text.startswith(f"{200 + mib} MiB for a batch of 100000 samples") and (
        f"{mib} MiB that {backend}" in check.text
    ) == (mib > 0)


def test_legacy_ddps_buffer_ends_at_its_own_size():
    assert memory.wrapper_bytes(config(), 10**9) == 4 * 2**28


def test_no_batch_is_proposed_far_beyond_what_was_measured():
    (fits,) = check([[20000, 90 * MIB, 1.0], [100000, 100 * MIB, 1.0]], 10**6 * MIB)
    assert "up to 1000000 fits" in fits.text


def test_nothing_is_claimed_from_a_single_point():
    (unknown,) = check([[20000, 400 * MIB, 9.0]], 10**6 * MIB)
    assert unknown.status == "warning" and unknown.text.startswith("not measured: an update of 20000 samples takes 9 s")


def test_time_counts_all_batches_of_an_update():
    line = memory.estimate_time(config(max_update=1800), found([[50000, 1, 3.0]])).text
    assert line.startswith("about 12 s per update, 6 h for 1800 updates")


def test_processes_share_the_memory_of_the_machine():
    of_two, where = memory.available_bytes(config())
    assert 0 < of_two < memory._meminfo("MemTotal") and "each of 2 processes" in where


def test_peak_memory_of_a_known_array():
    before = reset_peak()
    block = bytearray(64 * MIB)
    del block
    assert 60 * MIB < peak_bytes() - before < 80 * MIB


@pytest.mark.parametrize(
    "settings, kept",
    [
        ({}, 2),  # last and best
        ({"save_interval_updates": 100, "keep_interval_updates": 3}, 5),
        ({"save_interval_updates": 100}, 12),
        ({"no_epoch_checkpoints": False, "keep_last_epochs": 4}, 6),
        ({"no_epoch_checkpoints": False}, math.inf),
        ({"no_last_checkpoints": True}, 1),
    ],
)
def test_checkpoints_are_counted(settings, kept):
    assert folders.kept_checkpoints(config(**settings)) == kept


def test_a_full_disk_is_a_problem_before_the_run(tmp_path):
    (enough,) = folders.check_disk(config(save_dir=str(tmp_path / "run")), 1000)
    (full,) = folders.check_disk(config(save_dir=str(tmp_path / "run")), 1 << 60)
    assert (enough.status, full.status) == ("ok", "problem") and "at most 3 checkpoint files" in full.text
    (unbounded,) = folders.check_disk(config(save_dir=str(tmp_path), no_epoch_checkpoints=False), 1000)
    assert unbounded.status == "warning"


def test_folders_that_hydra_would_move_or_nobody_may_write_to(tmp_path):
    cfg = config(save_dir="runs/a")
    cfg.common.user_dir = "fairseq_birq"
    found = [check.line().split()[:2] for check in folders.check_folders(cfg)]
    assert found == [["problem", "user_dir"], ["problem", "save_dir"]]
    (tmp_path / "file").write_text("")
    (found,) = folders.check_folders(config(save_dir=str(tmp_path / "file" / "run")))
    assert found.status == "problem" and "is not a folder" in found.text
    (tmp_path / "checkpoint_last.pt").write_text("")
    (found,) = folders.check_folders(config(save_dir=str(tmp_path)))
    assert found.status == "ok" and f"goes on from {tmp_path}/checkpoint_last.pt" in found.text
