"""The three walls of the house: methods without fairseq, thin doors, and a process that an import leaves as it was."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fairseq_birq
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_manifest

PACKAGE = Path(fairseq_birq.__file__).parent
OF_RUNS = ("fairseq", "fairseq_cli", "omegaconf", "hydra")
MAY_IMPORT_FAIRSEQ = ("doors/", "patches/", "encoders/transformer.py", "tools/doctor/")
MAY_IMPORT_OMEGACONF = ("doors/", "patches/", "tools/doctor/", "tools/report/settings.py")  # the last writes settings as YAML

BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OF_RUNS}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
"""
ALL_OF_IT = """
import json, time
begin = time.process_time()
import numpy, torch
torch_seconds = time.process_time() - begin
begin = time.process_time()
import fairseq_birq
from fairseq_birq import load_encoder
from fairseq_birq.cli import audit
from fairseq_birq.encoders.conformer import ConformerEncoder
from fairseq_birq.model import BirqModel
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.tools.export.folder import export
seconds = time.process_time() - begin

folder = sys.argv[1]
wave = torch.randn(2, 16000)
padding_mask = torch.zeros(2, 16000, dtype=torch.bool)
assert load_encoder(f"{folder}/birq.pt")(wave).last.shape == (2, 24, 16)
assert RandomProjectionQuantizer(16, 8, 4).nearest(torch.randn(5, 16)).shape == (5, 1)
assert ConformerEncoder(2, 16, 32, 2)(torch.randn(2, 9, 16), torch.zeros(2, 9, dtype=torch.bool)).last.shape == (2, 9, 16)
model = BirqModel.from_checkpoint(f"{folder}/birq.pt").train()
output = model(wave, padding_mask, torch.arange(2))
assert set(output.terms) == {"raw_input", "own_layer", "snapshot"} and output.num_masked > 0
output.loss.backward()
assert sum(p.grad is not None for p in model.parameters()) > 20
export(f"{folder}/birq.pt", f"{folder}/exported", "safetensors")
assert load_encoder(f"{folder}/exported/model.safetensors")(wave).last.shape == (2, 24, 16)
assert audit.main([f"{folder}/train.tsv", "--seeds", "1", "--out", f"{folder}/audit", "model.quantizer.codebook_size=8"]) == 0
found = [name for name in sys.modules if name.split(".")[0] in OF_RUNS]
print(json.dumps({"seconds": seconds, "torch_seconds": torch_seconds, "found": found}))
""".replace("OF_RUNS", repr(OF_RUNS))


def python(code, *arguments):
    """What the code printed last; it runs in a process of its own."""
    root = str(PACKAGE.parent)
    code = f"import sys; sys.path.insert(0, {root!r})\n{code}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, *arguments], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout.strip().splitlines()[-1]


def test_the_methods_need_torch_and_numpy_alone(tmp_path):
    write_manifest(tmp_path, seconds=(1.0, 1.5))
    targets = {"use": ["raw_input", "own_layer", "snapshot"], "own_layer": {"layers": [2]}}
    targets["snapshot"] = {"layers": [1], "target_updates": [4]}
    settings = {"mask": {"start_prob": 0.1}, "targets": targets}
    write_birq_checkpoint(tmp_path / "birq.pt", settings, lambda model: model.set_num_updates(5))
    found = json.loads(python(BLOCKED + ALL_OF_IT, str(tmp_path)))
    assert found["found"] == []
    assert found["seconds"] < 3, found


def test_a_transformer_without_fairseq_says_what_it_needs(tmp_path):
    write_birq_checkpoint(tmp_path / "birq.pt", name="transformer")
    code = """
from fairseq_birq import load_encoder
try:
    load_encoder(sys.argv[1])
except ValueError as error:
    print(error)
"""
    assert "`model.encoder.name: transformer` has fairseq's layers" in python(BLOCKED + code, str(tmp_path / "birq.pt"))


@pytest.mark.parametrize(
    "names, allowed", [("fairseq|fairseq_cli", MAY_IMPORT_FAIRSEQ), ("omegaconf|hydra", MAY_IMPORT_OMEGACONF)]
)
def test_only_what_looks_at_whole_runs_imports_fairseq(names, allowed):
    imports = re.compile(rf"^\s*(?:from|import)\s+(?:{names})\b", re.M)
    files = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    importing = [name for name, text in files.items() if imports.search(text)]
    assert len(files) > 100 and [name for name in importing if not name.startswith(allowed)] == []
    assert [place for place in allowed if not any(name.startswith(place) for name in importing)] == []


@pytest.mark.parametrize("folder", ["objective", "targets", "frontends", "encoders", "modules", "data", "decoding", "measures"])
def test_methods_know_neither_doors_nor_tools(folder):
    imports = re.compile(r"^\s*(?:from|import)\s+fairseq_birq\.(?:doors|patches|tools|cli|corpora)\b", re.M)
    assert [path.name for path in (PACKAGE / folder).rglob("*.py") if imports.search(path.read_text())] == []


TO_THE_LEFT = {  # of each stage: the folders that it may import, besides structs.py and the ground floor's small files
    "data": [],
    "modules": [],
    "frontends": ["modules"],
    "objective": ["modules"],
    "encoders": ["modules"],
    "targets": ["builders", "data", "encoders", "frontends", "modules", "objective"],
    "decoding": ["data"],
}


@pytest.mark.parametrize("stage", TO_THE_LEFT)
def test_a_stage_imports_only_stages_to_its_left(stage):
    imports = re.compile(r"^\s*(?:from|import)\s+fairseq_birq\.(\w+)", re.M)
    imported = {name for path in (PACKAGE / stage).rglob("*.py") for name in imports.findall(path.read_text())}
    assert imported - {stage, "structs", "settings", "errors", "distributed", "devices"} <= set(TO_THE_LEFT[stage])


@pytest.mark.parametrize("name", ["raw_input", "own_layer", "snapshot", "moving_average", "label_file"])
def test_no_code_outside_of_targets_asks_for_the_name_of_a_source(name):
    quoted = f"[\"']{name}[\"']"
    asks = re.compile(rf"(?:==|!=|\bin)\s*{quoted}|{quoted}\s*(?:==|!=|\bin\b|not in\b)|\[{quoted}\]|get\({quoted}")
    files = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "targets"]
    found = {str(path.relative_to(PACKAGE)) for path in files if asks.search(path.read_text())}
    assert found <= {"tools/audit/audit.py", "tools/pictures/embeddings.py", "tools/doctor/stages.py"}


STATE = """
import torch
from fairseq import checkpoint_utils, utils
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.logging import progress_bar
from fairseq.models import MODEL_REGISTRY
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY
from fairseq.tasks import TASK_REGISTRY

def state():
    functions = (checkpoint_utils, distributed_utils, PathManager, progress_bar.TensorboardProgressBarWrapper)
    registries = (TASK_REGISTRY, MODEL_REGISTRY, CRITERION_REGISTRY, LR_SCHEDULER_REGISTRY)
    return [dict(vars(one)) for one in functions], [list(one) for one in registries], torch.load, torch.save

def ours():
    return sorted(name for registry in state()[1] for name in registry if name.startswith("birq"))

before = state()
"""
ALL_DOORS = sorted(["birq_asr", "birq_pretraining", "birq", "birq_ctc", "birq", "birq_ctc", "birq_stages"])


def test_a_bare_import_registers_and_patches_nothing():
    code = """
import fairseq_birq
from fairseq_birq import load_encoder
from fairseq_birq.model import BirqModel
assert state() == before
print(ours())
"""
    assert python(STATE + code) == "[]"


@pytest.mark.parametrize("before", ["", "import fairseq_birq\nfrom fairseq_birq.model import BirqModel\n"])
def test_fairseq_opens_the_doors_of_its_user_directory(before):
    """Also where the package was imported before fairseq was told of it."""
    code = f"""
from argparse import Namespace
{before}
utils.import_user_module(Namespace(user_dir={str(PACKAGE)!r}))
assert state() != before
print(ours())
"""
    assert python(STATE + code) == str(ALL_DOORS)


def test_the_user_directory_of_somebody_else_opens_none(tmp_path):
    (tmp_path / "their_plugin").mkdir()
    (tmp_path / "their_plugin" / "__init__.py").write_text("import fairseq_birq\n")
    code = f"""
from argparse import Namespace
utils.import_user_module(Namespace(user_dir={str(tmp_path / "their_plugin")!r}))
assert "fairseq_birq" in sys.modules and state() == before
print(ours())
"""
    assert python(STATE + code) == "[]"


def test_a_config_that_is_unpickled_in_another_process_opens_the_doors(tmp_path):
    """Spawned processes get their arguments before fairseq imports its user directory in them."""
    write = """
import pickle
import fairseq_birq.doors
from fairseq.registry import REGISTRIES
from omegaconf import OmegaConf
cfg = OmegaConf.structured(REGISTRIES["lr_scheduler"]["dataclass_registry"]["birq_stages"])
open(sys.argv[1], "wb").write(pickle.dumps(cfg))
print("written")
"""
    read = f"""
import pickle
from argparse import Namespace
cfg = pickle.load(open(sys.argv[1], "rb"))
utils.import_user_module(Namespace(user_dir={str(PACKAGE)!r}))
assert cfg.restart_schedule
print(ours())
"""
    assert python(write, str(tmp_path / "cfg")) == "written"
    assert python(STATE + read, str(tmp_path / "cfg")) == str(ALL_DOORS)
