"""Stages in whole training runs: stopping around a target update, half precision, gradient accumulation, two processes."""

import pytest
import torch
import yaml
from fairseq.dataclass.configs import FairseqConfig
from fairseq_cli.train import main
from omegaconf import OmegaConf

from fairseq_birq.objective.heads import CodebookHeads
from tests.fixtures.manifests import write_corpus
from tests.fixtures.models import batch, latent_rq
from tests.fixtures.runs import assert_same
from tests.fixtures.training_commands import command, logged, train, train_in_two_processes, weights

REFRESHES = [4, 6]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def run(repository, corpus, tmp_path):
    """Train the debug recipe in this process; the checkpoint that it leaves."""
    recipe = yaml.safe_load((repository / "examples" / "latent_rq" / "debug.yaml").read_text())

    def run(name, max_update, *changes, updates=REFRESHES):
        fixed = {
            "common": {"user_dir": None, "cpu": True},
            "checkpoint": {"save_dir": str(tmp_path / name)},
            "task": {"data": str(corpus)},
            "optimization": {"max_update": max_update},
            "lr_scheduler": {"target_updates": updates, "warmup_updates": 1},
            "model": {"targets": {"snapshot": {"target_updates": updates}}},
        }
        main(OmegaConf.merge(OmegaConf.structured(FairseqConfig), recipe, fixed, *changes))
        return torch.load(tmp_path / name / "checkpoint_last.pt", map_location="cpu", weights_only=True)

    return run


MIXES = [["snapshot"], ["raw_input", "snapshot", "moving_average"]]


@pytest.mark.parametrize("use, precision", [(MIXES[0], {}), (MIXES[1], {}), (MIXES[1], {"bf16": True})])
def test_a_run_stopped_around_a_target_update_goes_on_bit_for_bit(run, use, precision):
    mix = {"model": {"targets": {"use": use, "moving_average": {"layers": [1]}}}, "common": precision}
    whole = run("whole", 8, mix)
    assert whole["model"]["targets.snapshot._extra_state"]["stage"] == 2
    for stop in (3, 4, 5, 6):
        stopped = run(f"stopped{stop}", stop, mix)
        assert stopped["model"]["targets.snapshot._extra_state"]["stage"] == sum(update < stop for update in REFRESHES)
        resumed = run(f"stopped{stop}", 8, mix)
        for part in ("model", "last_optimizer_state"):
            assert_same(resumed[part], whole[part])


def as_computed(checkpoint, weights):
    """What training computed with: in bf16 the checkpoint has the float32 weights, from which it rounds."""
    return weights.bfloat16().float() if checkpoint["cfg"]["common"]["bf16"] else weights


def new_heads(checkpoint, stage):
    settings, weight = checkpoint["cfg"]["model"], checkpoint["model"]["heads.snapshot.weight"]
    heads = CodebookHeads(weight.shape[2], weight.shape[1], weight.shape[0])
    heads.redraw(settings["seed"], stage)
    return as_computed(checkpoint, heads.weight)


@pytest.mark.parametrize("precision", [{}, {"common": {"bf16": True}}])
def test_heads_and_optimizer_begin_anew_and_the_encoder_goes_on(run, precision):
    """The first update of a stage has learning rate 0, as in fairseq's schedule: what it began with is still there."""
    before, after = run("before", 4, precision), run("after", 5, precision)
    assert {state["step"] for state in before["last_optimizer_state"]["state"].values()} == {4}
    assert {state["step"] for state in after["last_optimizer_state"]["state"].values()} == {1}
    heads = [as_computed(each, each["model"]["heads.snapshot.weight"]) for each in (before, after)]
    assert torch.equal(heads[1], new_heads(after, stage=1)) and not torch.equal(heads[0], new_heads(after, stage=1))
    encoder = {key: value for key, value in before["model"].items() if key.startswith("speech_encoder.")}
    for key, value in encoder.items():
        assert torch.equal(value, after["model"][key])
    copied = [key for key in after["model"] if key.startswith("targets.snapshot.encoder.")]
    for key in copied:
        trained = encoder[key.replace("targets.snapshot.encoder", "speech_encoder")]
        assert torch.equal(after["model"][key], as_computed(after, trained)), key
    assert len(copied) > 20


@pytest.mark.parametrize("precision", [{}, {"common": {"bf16": True}}])
def test_every_piece_can_be_switched_off(run, precision):
    off = {"snapshot": {"reset_heads": False, "reset_optimizer": False}}
    before = run("before", 4, precision)
    after = run("after", 5, precision, {"model": {"targets": off}, "lr_scheduler": {"restart_schedule": False}})
    assert after["model"]["targets.snapshot._extra_state"]["stage"] == 1
    assert {state["step"] for state in after["last_optimizer_state"]["state"].values()} == {5}
    assert after["last_optimizer_state"]["param_groups"][0]["lr"] > 0  # half way down the only schedule
    moved = after["model"]["heads.snapshot.weight"].float() - before["model"]["heads.snapshot.weight"].float()
    assert 0 < moved.abs().max() < 0.01


def test_accumulated_batches_refresh_once(run):
    """Every batch of an update tells the model its count; only the first begins the stage."""
    twice = {"optimization": {"update_freq": [2]}, "model": {"targets": {"snapshot": {"statistics_batches": 9}}}}
    checkpoint = run("accumulated", 5, twice, updates=[3])
    assert checkpoint["model"]["targets.snapshot._extra_state"]["stage"] == 1
    assert {state["step"] for state in checkpoint["last_optimizer_state"]["state"].values()} == {2}
    assert int(checkpoint["model"]["targets.snapshot.normalisations.0.num_batches"]) == 4  # two of each update since


def test_a_mismatch_stops_the_run_with_one_sentence(run, caplog):
    with pytest.raises(SystemExit):
        run("mismatch", 3, {"lr_scheduler": {"target_updates": [2]}})
    assert "`lr_scheduler.target_updates` is [2], but `model.targets.snapshot.target_updates` is [4, 6]" in caplog.text


def test_two_processes_train_as_one_on_the_joined_batch_across_a_target_update(repository, corpus, tmp_path):
    """Layer normalisation alone: statistics of a first batch are of both processes' batches, but of one accumulated."""
    plain = ["model.encoder.dropout=0.0", "model.encoder.attention_dropout=0.0", "optimization.max_update=4"]
    plain += [f"{part}.target_updates=[2]" for part in ("lr_scheduler", "model.targets.snapshot")]
    plain += ["model.targets.snapshot.normalisation=layer", "lr_scheduler.warmup_updates=1"]
    train(command(repository, "latent_rq", corpus, tmp_path / "one", *plain, "optimization.update_freq=[2]"), tmp_path)
    output = train_in_two_processes(repository, "latent_rq", corpus, tmp_path / "two", *plain, folder=tmp_path)
    assert [float(entry["stage"]) for entry in logged(output)] == [0, 0, 1, 1]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys() and one["targets.snapshot._extra_state"]["stage"] == 1
    for key, tensor in one.items():
        if torch.is_tensor(tensor):
            assert torch.allclose(tensor, two[key], atol=2e-5), key


def one_of_two(rank, store, results):
    """Both processes see batches of their own before and after a target update."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = latent_rq(use=["snapshot", "moving_average"])
    for update in (0, 1, 3):
        model.set_num_updates(update)
        model(**batch([1.5] if rank else [2.0, 1.0]))
    torch.save(model.state_dict(), f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_same_targets_heads_and_statistics(tmp_path):
    torch.multiprocessing.spawn(one_of_two, args=(tmp_path / "store", tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", map_location="cpu", weights_only=True) for rank in (0, 1))
    assert_same(first, second)
    alone = latent_rq()
    alone.set_num_updates(3)
    alone(**batch([2.0, 1.0]))
    assert not torch.equal(alone.targets["snapshot"].normalisations[1].mean, first["targets.snapshot.normalisations.1.mean"])
