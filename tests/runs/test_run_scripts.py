"""examples/run: how processes are started, and what the SLURM script does when it is asked to leave.

SLURM's and fairseq's programs are stand-ins here. `two_nodes.sh` is the real thing, and slow.
"""

import os
import signal
import subprocess
import time

import pytest

from tests.fixtures.commands import shell
from tests.fixtures.manifests import write_manifest

STAND_INS = {
    "scontrol": 'echo "scontrol $*" >>"$CALLS"; if [[ $1 == show ]]; then echo node7; echo node8; fi',
    "srun": """shift
        export SLURM_NTASKS=2; pids=()
        for rank in 0 1; do SLURM_PROCID=$rank "$@" & pids+=($!); done
        trap 'kill -USR1 "${pids[@]}"' USR1
        for pid in "${pids[@]}"; do while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done; wait "$pid"; status=$?; done
        exit "$status" """,
    "fairseq-hydra-train": """trap 'exit 75' USR1
        echo "$RANK/$WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $*" >>"$CALLS"
        for _ in $(seq "${STEPS:-50}"); do sleep 0.1; done
        exit "${STATUS:-0}" """,
}


@pytest.fixture
def cluster(tmp_path):
    """Environment with the stand-ins, which note their calls in the file $CALLS."""
    for name, script in STAND_INS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(0o755)
    (tmp_path / "calls").write_text("")
    job = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NODELIST": "node[7-8]", "CALLS": str(tmp_path / "calls")}
    return {**os.environ, **job, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


def submit(repository, cluster, *arguments, send=None, **environment):
    """Exit status of the SLURM script and the lines of all calls; `send` is sent once both processes run."""
    calls = open(cluster["CALLS"])
    job = subprocess.Popen(["examples/run/slurm.sh", *arguments], cwd=repository, env={**cluster, **environment})
    if send is not None:
        begun = time.monotonic()
        while calls.read().count("/2 ") < 2 and time.monotonic() - begun < 20:
            calls.seek(0)
            time.sleep(0.05)
        job.send_signal(send)
    status = job.wait(timeout=30)
    calls.seek(0)
    return status, calls.read().splitlines()


def test_a_job_near_its_time_limit_saves_and_queues_again(repository, cluster):
    status, calls = submit(repository, cluster, "key=value", send=signal.SIGUSR1)
    assert status == 0 and calls[-1] == "scontrol requeue 12345"
    started = sorted(line for line in calls if "/2 " in line)
    assert [line.split()[:2] for line in started] == [["0/2", "node7:32345"], ["1/2", "node7:32345"]]
    assert all(line.split()[2:] == ["key=value", "distributed_training.distributed_world_size=2"] for line in started)


def test_a_cancelled_job_saves_and_does_not_queue_again(repository, cluster):
    status, calls = submit(repository, cluster, send=signal.SIGTERM)
    assert status == 75 and not any("requeue" in line for line in calls)


@pytest.mark.parametrize("status", ["0", "2"])
def test_a_job_that_ends_by_itself_does_not_queue_again(repository, cluster, status):
    ended, calls = submit(repository, cluster, STEPS="1", STATUS=status)
    assert ended == int(status) and not any("requeue" in line for line in calls)


def test_a_process_on_a_cpu_is_told_rank_and_rendezvous(repository, cluster):
    torchrun = dict(RANK="3", WORLD_SIZE="4", LOCAL_RANK="1", MASTER_ADDR="here", MASTER_PORT="1", STEPS="0")
    subprocess.run(["examples/run/process.sh", "common.cpu=true"], cwd=repository, env={**cluster, **torchrun}, check=True)
    (line,) = open(cluster["CALLS"]).read().splitlines()
    parts = [f"distributed_training.distributed_{part}" for part in ("world_size=4", "rank=3", "init_method=env://")]
    assert line.startswith("3/4 here:1 common.cpu=true") and set(parts) <= set(line.split())


def test_without_a_launcher_a_process_says_what_is_missing(repository, cluster):
    cluster = {key: value for key, value in cluster.items() if key not in ("RANK", "SLURM_PROCID")}
    done = subprocess.run(["examples/run/process.sh"], cwd=repository, env=cluster, capture_output=True, text=True)
    assert done.returncode != 0 and "torchrun or srun" in done.stderr


@pytest.mark.slow
def test_two_nodes_have_the_losses_of_one_process(repository, tmp_path):
    if subprocess.run(["unshare", "--map-root-user", "--net", "true"], capture_output=True).returncode:
        pytest.skip("network namespaces are not allowed here")
    folder = write_manifest(tmp_path / "data", "train", seconds=[1.0 + 0.2 * index for index in range(12)])
    output = shell(f"examples/run/two_nodes.sh {folder} {tmp_path / 'out'}", repository)
    assert "the losses agree" in output
    (received,) = [int(line.split()[-1]) for line in output.splitlines() if line.startswith("bytes")]
    assert received > 5 * 4 * 10000  # five updates of a model with more parameters than that
