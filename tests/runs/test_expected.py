"""What `benchmarks/expected.py` counts, against the formulas of a small encoder."""

import importlib.util

import pytest
import yaml


@pytest.fixture
def expected(repository, monkeypatch):
    spec = importlib.util.spec_from_file_location("expected", repository / "benchmarks" / "expected.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_operations_and_bytes_grow_with_the_encoder_and_times_with_the_operations(repository, expected, tmp_path):
    recipe = yaml.safe_load((repository / "examples" / "best_rq" / "debug.yaml").read_text())
    found = []
    for number, dim in enumerate((64, 128)):
        recipe["model"]["encoder"].update(dim=dim, ffn_dim=4 * dim, num_heads=2)
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        arguments = expected.parser().parse_args([str(path), "--seconds", "4", "--gpus", "1", "4"])
        found.append(expected.expected(path, arguments))
    small, large = found
    frames, layers = 4 * 25, recipe["model"]["encoder"]["num_layers"]
    # Per layer and frame: two feed-forward modules 16 d^2, attention 4 d^2, convolution module 3 d^2; two operations a product,
    # three passes (forward, gradients of inputs and of weights).
    formula = 2 * 3 * layers * 23 * 128**2 * frames
    assert large["tflop_per_utterance"] * 1e12 == pytest.approx(formula, rel=0.25)
    assert 3 < large["tflop_per_utterance"] / small["tflop_per_utterance"] < 4.2
    assert large["gib_kept_per_utterance"] > 1.5 * small["gib_kept_per_utterance"]
    one, four = large["gpus"]
    assert large["utterances_per_update"] == one["utterances_per_gpu"] == 2 and four["utterances_per_gpu"] == 1  # 8 s in all
    assert four["updates_per_second_at_40%_mfu"] == pytest.approx(2 * one["updates_per_second_at_40%_mfu"])
    assert one["hours_at_20%_mfu"] == pytest.approx(2 * one["hours_at_40%_mfu"])
