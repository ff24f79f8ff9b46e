"""Curves of a hand-made log: known points come out, noise is passed over, a PNG is drawn."""

import json

import pytest

from fairseq_birq.errors import UserError
from fairseq_birq.tools.pictures import curves


@pytest.fixture
def log_file(tmp_path):
    """Two updates of training, one validation; one update logged twice, one line broken, one not about updates."""
    train = [
        {"epoch": 1, "loss": "7.0", "num_updates": "10", "perplexity_raw_input": "300.5", "top_share_raw_input": "0.1"},
        {"epoch": 1, "loss": "6.5", "num_updates": "20", "accuracy_raw_input": "0.25", "top_share_raw_input": "0.1"},
        {"epoch": 1, "loss": "6.0", "num_updates": "20", "accuracy_raw_input": "0.30", "top_share_raw_input": "0.1"},
    ]
    valid = {"epoch": 1, "valid_loss": "6.2", "valid_wer": "80.0", "valid_num_updates": "20", "valid_note": "text"}
    lines = [f"[2025-01-01 00:00:00][train_inner][INFO] - {json.dumps(record)}" for record in train]
    lines += ["epoch 1 | begins {", "{broken", json.dumps({"loss": 1}), json.dumps(valid)]
    path = tmp_path / "train.log"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_known_points_come_out(log_file):
    log = curves.read_log(log_file)
    assert curves.series(log, "train_inner", "loss") == {10: 7.0, 20: 6.0}
    assert curves.series(log, "valid", "wer") == {20: 80.0}
    assert curves.series(log, "valid", "missing") == {}
    assert "note" not in log["valid"][20]


def test_panels_name_the_target_sources(log_file):
    panels = {panel.title: panel for panel in curves.pretraining_panels(curves.read_log(log_file))}
    accuracy, top = panels["prediction of masked codes"].lines
    assert accuracy.points == {20: 0.30} and top.points == {10: 0.1, 20: 0.1}
    assert panels["code perplexity"].lines[0].points == {10: 300.5}
    assert [line.label for line in panels["pre-training loss"].lines] == ["training", "valid"]


def test_a_short_run_has_the_points_of_its_epochs(tmp_path):
    log = curves.parse_line(json.dumps({"epoch": 1, "train_loss": "5.0", "train_num_updates": "3"}))
    assert log == ("train", 3, {"loss": 5.0, "num_updates": 3.0})
    panels = curves.pretraining_panels({"train": {3: {"loss": 5.0}}})
    assert panels[0].lines[0].points == {3: 5.0}


def test_a_png_is_drawn(log_file, tmp_path):
    log = curves.read_log(log_file)
    panels = curves.pretraining_panels(log) + curves.finetuning_panels({"from scratch": log, "pre-trained": log}, "valid")
    picture = curves.draw(panels, tmp_path / "new" / "curves.png")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000


def test_an_empty_or_missing_log_is_a_user_error(tmp_path):
    empty = tmp_path / "empty.log"
    empty.write_text("nothing here\n")
    with pytest.raises(UserError, match="log_format=json"):
        curves.read_log(empty)
    with pytest.raises(UserError, match="no such log"):
        curves.read_log(tmp_path / "missing.log")
    with pytest.raises(UserError, match="nothing to draw"):
        curves.draw([curves.Panel("empty", "", [curves.Line("none", {})])], tmp_path / "none.png")
