"""The table of who wins, on results made by hand, and what its curves are made of."""

import json

import numpy as np
import pytest
import torch
from saturation import code_quality, kept_checkpoints
from summary import read_results
from who_wins import at_best_layer, gain_cell, gains, table


def write(folder, row, seed, dev, test):
    metrics = {key: test for key in ("letter_probe", "abx_within", "abx_across")}
    metrics_dev = {key: dev for key in metrics}
    labels = {"label_file": {"pnmi": 0.5, "chance": 0.1}}
    content = {"row": row, "seed": seed, "metrics": metrics, "metrics_dev": metrics_dev, "labels": labels}
    (folder / f"{row}-seed{seed}.json").write_text(json.dumps(content))


@pytest.fixture
def rows(tmp_path):
    write(tmp_path, "on_best_rq", 1, [1.0, 3.0, 2.0], [10.0, 20.0, 50.0])
    write(tmp_path, "on_best_rq", 2, [1.0, 3.0, 2.0], [12.0, 22.0, 50.0])
    write(tmp_path, "on_birq", 1, [3.0, 1.0, 2.0], [24.0, 9.0, 50.0])
    write(tmp_path, "on_birq", 2, [3.0, 1.0, 2.0], [20.0, 9.0, 50.0])
    write(tmp_path, "on_birq", 3, [3.0, 1.0, 2.0], [99.0, 9.0, 50.0])
    return read_results(tmp_path)


def test_the_layer_is_chosen_on_dev_and_reported_on_test(rows):
    assert at_best_layer(rows["on_best_rq"][1], "letter_probe") == 20
    assert at_best_layer(rows["on_best_rq"][1], "abx_within") == 10  # the less, the better


def test_gains_are_of_equal_seeds_and_positive_where_a_row_is_better(rows):
    assert gains(rows["on_birq"], rows["on_best_rq"], "letter_probe") == [4, -2]
    assert gains(rows["on_birq"], rows["on_best_rq"], "abx_within") == [
        1,
        3,
    ]  # 10, 12 of BEST-RQ's first layer, 9 of BiRQ's second
    assert gain_cell([4, -2]) == "+1.0 ± 4.2 (1 of 2)" and gain_cell([1.5]) == "+1.5 (1 of 1)" and gain_cell([]) == "–"


def test_the_table_has_a_line_for_each_row_that_is_there(rows):
    lines = table(rows)
    assert len(lines) == 2 + 2
    assert lines[2].endswith("| – | – |")
    assert "label_file 0.40 ± 0.00" in lines[3] and lines[3].endswith("| +1.0 ± 4.2 (1 of 2) | +2.0 ± 1.4 (2 of 2) |")


def test_checkpoints_in_the_order_of_their_updates(tmp_path):
    for name in ("checkpoint_4_2500.pt", "checkpoint_12_10000.pt", "checkpoint_last.pt", "checkpoint_best.pt", "checkpoint3.pt"):
        (tmp_path / name).touch()
    assert {update: path.name for update, path in kept_checkpoints(tmp_path).items()} == {
        2500: "checkpoint_4_2500.pt",
        10000: "checkpoint_12_10000.pt",
    }


def test_codes_of_a_layer_that_knows_the_letters_say_more():
    generator = np.random.default_rng(0)
    letters = torch.from_numpy(generator.integers(-1, 4, size=600))
    noise = generator.normal(size=(600, 8)).astype(np.float32)
    knows = noise + 20 * np.eye(8, dtype=np.float32)[letters.numpy()]
    found = code_quality([np.stack([noise[:300], knows[:300]]), np.stack([noise[300:], knows[300:]])], letters, seed=1)
    for kind in ("clusters", "random"):
        assert abs(found[kind][0]) < 0.1 < 0.4 < found[kind][1]
