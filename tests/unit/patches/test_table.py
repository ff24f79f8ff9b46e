"""The table of patches is true, and what is not of our tasks goes through fairseq's own code."""

import ast
from types import SimpleNamespace

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.logging import meters
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from fairseq_birq import patches
from fairseq_birq.doors.code_logging import CodeHistogramMeter
from fairseq_birq.errors import UserError
from fairseq_birq.patches import loading, saving
from fairseq_birq.patches.run_state import RunState
from fairseq_birq.patches.settings import HARMFUL, check_settings

TABLE = patches.REPLACED + patches.INSIDE
FAIRSEQS = {
    "torch_persistent_save": lambda: checkpoint_utils.torch_persistent_save,
    "load_checkpoint_to_cpu": lambda: checkpoint_utils.load_checkpoint_to_cpu,
    "copy": lambda: PathManager.copy,
    "_broadcast_object_slow": lambda: distributed_utils._broadcast_object_slow,
    "torch.load": lambda: torch.load,
}


def test_every_line_of_the_table_names_what_there_is(repository):
    for patch in TABLE:
        assert patches.find(patch.place) is not None and patches.find(f"fairseq_birq.{patch.ours}") is not None
        file, _, function = patch.test.partition("::")
        tests = ast.parse((repository / "tests" / file).read_text())
        assert function in {node.name for node in tests.body if isinstance(node, ast.FunctionDef)}, patch.test


def test_installing_again_changes_nothing():
    import fairseq_cli.train  # noqa: F401  the module of fairseq's command

    patches.install()
    before = [patches.find(patch.place) for patch in patches.REPLACED]
    patches.install()
    assert [patches.find(patch.place) for patch in patches.REPLACED] == before
    wrapped = [one for one in before if not isinstance(one, type)]
    assert wrapped and all(not hasattr(one.__wrapped__, "__wrapped__") for one in wrapped)


def test_only_the_table_replaces_anything(repository):
    """Nobody else in the package assigns to an attribute of a module or class that it imported from elsewhere."""
    found, setting = [], {"patches/__init__.py", "patches/replacing.py"}
    for path in (repository / "fairseq_birq").rglob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {
            (name.asname or name.name).split(".")[0]
            for node in tree.body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            and not (getattr(node, "module", None) or "").startswith("fairseq_birq")
            for name in node.names
        }
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr"]
        if path.relative_to(repository / "fairseq_birq").as_posix() not in setting:
            found += [f"{path.relative_to(repository)}:{call.lineno}" for call in calls if ast.unparse(call.args[0]) in imported]
        targets = (target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets)
        for target in targets:
            owner = target.value if isinstance(target, ast.Attribute) else None
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in imported:
                found.append(f"{path.relative_to(repository)}:{target.lineno}")
    assert found == []


class OtherModel(BaseFairseqModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)


class OtherTask(FairseqTask):
    """A task that this package knows nothing of; it notes which functions are fairseq's while it is saved and loaded."""

    def __init__(self):
        super().__init__(cfg=None)
        self.seen = []

    def note(self):
        self.seen.append({name: function().__module__ for name, function in FAIRSEQS.items()})

    def state_dict(self):
        self.note()
        return {"note": 1}

    def load_state_dict(self, state):
        self.note()

    def build_model(self, cfg, from_checkpoint=False):
        self.note()
        return OtherModel()


@pytest.fixture
def trainer():
    optimizer = {"_name": "sgd", "lr": [0.1], "momentum": 0.0, "weight_decay": 0.0}
    cfg = OmegaConf.merge(OmegaConf.structured(FairseqConfig), {"common": {"cpu": True}, "optimization": {"lr": [0.1]}})
    for part in ("model", "task", "criterion", "scoring", "tokenizer", "bpe"):
        cfg[part] = OmegaConf.create({"_name": "other"})
    cfg.model.base_layers = 0  # fairseq 0.12.2 compares it with a number
    cfg.optimizer = OmegaConf.create(optimizer)
    cfg.lr_scheduler = OmegaConf.create(
        {"_name": "fixed", "force_anneal": None, "lr_shrink": 0.1, "warmup_updates": 0, "lr": [0.1]}
    )
    made = Trainer(cfg, OtherTask(), OtherModel(), torch.nn.Module())
    made.get_train_iterator = lambda **settings: SimpleNamespace(epoch=1, load_state_dict=lambda state: None)
    return made


def test_a_run_of_another_task_is_fairseqs_own(trainer, tmp_path, monkeypatch):
    """Saving, loading, resuming and the models of a checkpoint, with all patches installed."""
    epoch_itr = SimpleNamespace(epoch=1, end_of_epoch=lambda: True, state_dict=lambda: {"epoch": 1})
    trainer.cfg.checkpoint.save_dir = str(tmp_path)
    monkeypatch.delattr(checkpoint_utils.save_checkpoint, "best", raising=False)
    checkpoint_utils.save_checkpoint(trainer.cfg.checkpoint, trainer, epoch_itr, 1.0)
    last, first = tmp_path / "checkpoint_last.pt", tmp_path / "checkpoint1.pt"
    assert first.read_bytes() == last.read_bytes() and first.stat().st_ino != last.stat().st_ino
    monkeypatch.setattr(RunState, "in_progress", RunState())
    checkpoint_utils.load_checkpoint(trainer.cfg.checkpoint, trainer)
    assert RunState.in_progress is None and type(trainer) is Trainer
    for task in (trainer.task, None):
        monkeypatch.setattr("fairseq.tasks.setup_task", lambda cfg, **kwargs: trainer.task)
        models, _, _ = checkpoint_utils.load_model_ensemble_and_task([str(last)], task=task)
        assert torch.equal(models[0].linear.weight, trainer.model.linear.weight)
    assert len(trainer.task.seen) >= 5
    assert all(module.startswith(("fairseq.", "torch.")) for seen in trainer.task.seen for module in seen.values())


def test_another_tasks_trainer_ends_its_updates_without_us(tmp_path):
    from fairseq_cli import train

    patches.install()
    with pytest.raises(AttributeError, match="get_num_updates"):  # fairseq's own first line
        train.validate_and_save(SimpleNamespace(), object(), OtherTask(), None, [], False)


def test_inside_ours_are_there_and_afterwards_fairseqs_again():
    before = {name: function() for name, function in FAIRSEQS.items()}
    with saving.whole_files(), loading.plain_values_only():
        inside = {name: function().__module__ for name, function in FAIRSEQS.items() if name != "torch.load"}
        assert all(module.startswith("fairseq_birq.") for module in inside.values())
    with pytest.raises(ZeroDivisionError), saving.whole_files(), loading.plain_values_only():
        raise ZeroDivisionError
    assert {name: function() for name, function in FAIRSEQS.items()} == before


def test_the_meter_of_code_histograms_comes_back_from_a_checkpoint():
    """fairseq's own restoring of a run's meters."""
    kept, restored = meters.MetersDict(), meters.MetersDict()
    kept.add_meter("codes", CodeHistogramMeter(), priority=10)
    kept["codes"].update(torch.tensor([[3.0, 1.0]]))
    restored.load_state_dict(kept.state_dict())
    assert isinstance(restored["codes"], CodeHistogramMeter) and restored["codes"].histogram.tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize("key", HARMFUL)
def test_settings_that_do_harm_are_refused_with_a_sentence(key):
    cfg = OmegaConf.structured(FairseqConfig)
    check_settings(cfg)
    OmegaConf.update(cfg, key, True)
    cfg.common.bf16 = key == "common.fp16"
    with pytest.raises(UserError, match=f"`{key}` is set, but "):
        check_settings(cfg)
