"""The arithmetic of the tables, on results made by hand."""

import json
import math

import pytest
from summary import ENDS, METRICS, labels_above_chance, main, read_results, row_lines, sensitivity, values, write_between


def write(folder, row, seed, probe):
    metrics = {"letter_probe": probe, "speaker_probe": [9.0], "linear_ctc": [80.0]}
    metrics.update({key: [30.0, 20.0 + seed, 25.0] for key in ("abx_within", "abx_across")})
    labels = {"label_file": {"pnmi": 0.5 + seed / 10, "chance": 0.1}}
    content = {"row": row, "seed": seed, "metrics": metrics, "labels": labels}
    (folder / f"{row}-seed{seed}.json").write_text(json.dumps(content))


@pytest.fixture
def results(tmp_path):
    for seed in (1, 2, 3):
        write(tmp_path, "best_rq", seed, [10.0 * seed, 1.0])
        write(tmp_path, "true_letters", seed, [10.0 * seed + 40.0, 2.0])
    return tmp_path


def test_sensitivity_is_the_difference_in_deviations():
    assert sensitivity([1, 2, 3], [5, 6, 7]) == pytest.approx(4)  # both deviate by 1
    assert sensitivity([5, 6, 7], [1, 2, 3]) == pytest.approx(4)
    assert sensitivity([0, 2], [10, 10]) == pytest.approx(9 / 1)  # variances 2 and 0: deviation 1
    assert sensitivity([1], [2, 3]) is None
    assert sensitivity([1, 1], [2, 2]) == math.inf


def test_best_and_last_layer_of_every_seed(results):
    rows = read_results(results)
    assert set(rows) == set(ENDS)
    assert values(rows["best_rq"], "letter probe, best layer") == [10, 20, 30]
    assert values(rows["best_rq"], "letter probe, last layer") == [1, 1, 1]
    assert values(rows["best_rq"], "ABX within speakers, best layer") == [21, 22, 23]
    assert labels_above_chance(rows["best_rq"])["label_file"] == pytest.approx([0.5, 0.6, 0.7])


def test_the_tables_say_so(results, tmp_path, capsys, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- sensitivity: begin -->\nold\n<!-- sensitivity: end -->\n<!-- rows: begin -->\n<!-- rows: end -->\n"
        "<!-- factors: begin -->\n<!-- factors: end -->\nafter\n"
    )
    monkeypatch.setattr("sys.argv", ["summary.py", str(results), "--write", str(page)])
    main()
    text = page.read_text()
    assert "| letter probe, best layer | 20.0 ± 10.0 | 60.0 ± 10.0 | +40.0 | 4.0 |" in text
    assert "| true_letters | 3 | label_file 0.60 ± 0.10 | 60.0 ± 10.0 |" in text
    assert "| stacked log-Mel | random, 16 | random | 4 × 256 | best_rq | 3 | 0.60 ± 0.10 | 20.0 ± 10.0 |" in text
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    write_between(page, "rows", ["again"])
    assert page.read_text().count("again") == 1


def test_rows_stand_in_the_order_of_their_probe(results):
    names = [line.split(" | ")[0] for line in row_lines(read_results(results))[2:]]
    assert names == ["| best_rq", "| true_letters"] and len(METRICS) == 8
