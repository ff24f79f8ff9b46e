"""The command that counts launches, on small recipes."""

import json
import subprocess
import sys

import pytest
from torch.utils import backend_registration

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="this torch has no Python devices"
)


MOST_LAUNCHES = {"best_rq": 437, "birq": 766, "latent_rq": 534}  # counted when this was written: 431, 758, 528
MOST_WAITS = 4  # two of fairseq's, one for bad updates, one copy of all that is logged


@pytest.mark.parametrize("method", sorted(MOST_LAUNCHES))
def test_an_update_is_counted_and_mixes_no_devices(repository, method):
    command = [sys.executable, "benchmarks/launches.py", f"examples/{method}/debug.yaml", "--batch", "2", "--seconds", "1.5"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["mismatches"] == 0
    assert found["launches"] <= MOST_LAUNCHES[method], found["launches_by_file"]
    assert found["waits"] <= MOST_WAITS, found["waits_by_file"]
    assert found["launches"] == sum(found["launches_by_file"].values()) == sum(found["by_phase"].values())
    assert found["by_phase"]["forward"] > 100 and found["by_phase"]["backward"] > 50
    assert found["bytes"] > 1e6 and found["waits"] == sum(found["waits_by_file"].values())


def test_bytes_of_the_real_width_follow_from_three_narrow_ones(repository):
    def moved(*options):
        recipe = ["examples/best_rq/debug.yaml", "model.encoder.num_layers=1", "--batch", "2", "--seconds", "1.5"]
        command = [sys.executable, "benchmarks/launches.py", *recipe, *options]
        return json.loads(subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout)["bytes"]

    assert moved() == pytest.approx(moved("--direct"), rel=1e-3)
