"""What a run says and does where something is wrong, and what validation leaves alone."""

import pytest
import torch
from fairseq2.recipe.cli import main

from fairseq_birq.config import BirqConfig
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2.model import create_model
from fairseq_birq.fairseq2.pretrain.recipe import PretrainRecipe
from fairseq_birq.fairseq2.pretrain.units import shown
from fairseq_birq.settings import from_dict
from tests.fixtures.audio import truncate, waveform_batch
from tests.fixtures.fairseq2_runs import SMALL, TARGETS, logged, train
from tests.fixtures.manifests import write_manifest

MODEL = "step_3/model/pp_00/tp_00/sdp_00.pt"


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"criterion": {"start_updates": {"snapshot": 3}}}, r"`criterion.start_updates` names \['snapshot'\]"),
        ({"criterion": {"collapse_action": "sto"}}, "`criterion.collapse_action` must be one of warn, stop"),
        (
            {"criterion": {"collapse_min_perplexity": 1e6, "collapse_patience": 2, "collapse_action": "stop"}},
            "the codes of target source `raw_input` have collapsed",
        ),
        ({"task": {"sample_rate": 8000}}, "`task.sample_rate` is 8000, but the model's frontend wants 16000"),
        ({"dataset": {"max_tokens": 1000}}, "Raise dataset.max_tokens to keep them"),
        ({"model": {"targets": {"use": ["label_file"]}}}, "`task.frame_labels` is not set"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(changes, sentence, corpus, tmp_path):
    with pytest.raises(UserError, match=sentence):
        train(tmp_path, "best_rq", corpus, 4, **changes)


def test_stages_of_targets_and_learning_rate_must_be_the_same(corpus, tmp_path):
    changed = {"targets": {"use": ["snapshot"], "snapshot": {"layers": [1, 2], "target_updates": [4]}}}
    with pytest.raises(UserError, match=r"`lr_scheduler.target_updates` is \[3, 6\], but `model.targets.snapshot"):
        train(tmp_path, "latent_rq", corpus, 4, model=changed)


def test_the_command_says_it_in_one_line(tmp_path, monkeypatch, capfd):
    write_manifest(tmp_path / "data", seconds=[1.0] * 3)
    write_manifest(tmp_path / "data", "valid", seconds=[1.0])
    truncate(tmp_path / "data" / "train" / "0001.flac")
    arguments = ["pretrain", str(tmp_path / "run"), "--no-rich", "--config", f"task.data={tmp_path}/data"]
    monkeypatch.setattr("sys.argv", [*arguments, "task.on_bad_audio=error", "dataset.num_workers=0"])
    with pytest.raises(SystemExit) as stopped:
        main(PretrainRecipe())
    said = capfd.readouterr().err
    assert stopped.value.code == 2 and "0001.flac: truncated" in said and "Traceback" not in said


def test_validation_changes_nothing(corpus, tmp_path):
    """Also before the first update: it runs in inference mode, whose tensors training cannot use."""
    often = {"validate_at_start": True, "validate_every_n_steps": 1, "publish_metrics_every_n_steps": 1}
    once = {"publish_metrics_every_n_steps": 1}
    runs = {"often": often, "once": once}
    states = {name: torch.load(train(tmp_path / name, "birq", corpus, 3, regime=regime) / MODEL) for name, regime in runs.items()}
    assert all(torch.equal(value, states["once"][key]) for key, value in states["often"].items())
    assert [one["Step"] for one in logged(tmp_path / "often", "valid")] == [0, 1, 2, 3]
    losses = [[one["Loss"] for one in logged(tmp_path / name)] for name in runs]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_autocast_leaves_the_labels_alone():
    settings = {"encoder": SMALL, "mask": {"start_prob": 0.05}, "targets": TARGETS["birq"]}
    config = from_dict(BirqConfig, settings)
    waveform, padding_mask, ids = waveform_batch(1.0, 1.4)
    codes = []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = create_model(config)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            output = model(waveform.double(), padding_mask, ids)
        codes.append(output.terms["raw_input"].codes)
    assert torch.equal(*codes) and output.loss.dtype == torch.float32


def test_curves_are_of_all_batches_together():
    sums = {"loss": 30.0, "sample_size": 10, "num_frames": 40, "num_padded": 10, "num_outputs": 2, "nsentences": 4}
    sums.update(bad_audio=1, audio_seconds=6.0)
    codes = {"loss.a": torch.tensor([20.0, 40.0]), "histogram.a": torch.tensor([[2.0, 2.0], [4.0, 0.0]])}
    norms = {"gradient_norm.a": torch.tensor(3.0), "gradient_norms.a": torch.tensor(1.0)}
    values = shown({**{key: torch.tensor(float(value)) for key, value in sums.items()}, **codes, **norms})
    assert values["loss"] == 3.0 and values["loss_a"] == 3.0 and values["loss_a_1"] == 4.0
    assert values["perplexity_a"] == pytest.approx(1.5) and values["mask_coverage"] == 0.25
    assert values["gradient_norm_a"] == 3.0 and values["num_examples"] == 4 and values["bad_audio"] == 1
