"""What `benchmarks/expected.py` counts, against the formulas of a small encoder."""

import importlib.util
import re

import pytest
import yaml
from omegaconf import OmegaConf


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


RECIPES = {
    "birq/c2_librispeech": "BiRQ C2",
    "best_rq/c2_librispeech": "BEST-RQ C2",
    "birq/c3_yodas": "BiRQ C3",
    "latent_rq/librispeech_base": "Latent-RQ base",
}


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_says_of_other_gpus_keeps_its_batch_and_its_longest_utterance(repository, name):
    """And its memory is that of docs/gpu.md."""
    path = repository / "examples" / f"{name}.yaml"
    recipe, page = OmegaConf.load(path), (repository / "docs" / "gpu.md").read_text()
    rows = re.findall(r"^#   (\d+) \((\d+) GiB\): (.+)$", path.read_text(), re.MULTILINE)
    assert [gpus for gpus, _, _ in rows] == ["1", "8", "64"]
    table = page[page.index(f"| [{RECIPES[name]}]") :].splitlines()
    cells = {int(line.split("|")[3]): int(line.split("|")[5]) for line in table[:3]}
    for gpus, gib, overrides in rows:
        changed = recipe if overrides == "as it is" else OmegaConf.merge(recipe, OmegaConf.from_dotlist(overrides.split()))
        assert changed.distributed_training.distributed_world_size == int(gpus) and cells[int(gpus)] == int(gib)
        for of_batch in ("batch_size", "max_tokens"):
            assert per_update(changed, of_batch) == per_update(recipe, of_batch)
        assert changed.dataset.max_tokens >= 16000 * recipe.task.max_seconds * (changed.dataset.get("batch_size") or 1)


def per_update(cfg, of_batch):
    each = cfg.dataset.get(of_batch) or 0
    return each * cfg.distributed_training.distributed_world_size * cfg.optimization.update_freq[0]
