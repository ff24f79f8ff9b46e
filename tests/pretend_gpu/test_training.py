"""Every method's debug recipe through fairseq's command, on the pretend GPU: no mixed devices, and the CPU's numbers.

Codes are equal to the CPU's; losses are sums in another order there (blocks, heads at once), so they agree to float32's rounding.
"""

import pytest

from tests.fixtures import on_device
from tests.fixtures.device_checks import write_corpus
from tests.fixtures.labels import write_labels

STAGES = {
    "lr_scheduler": {"target_updates": [2], "warmup_updates": 1},
    "model": {"targets": {"snapshot": {"target_updates": [2]}}},
}
RECIPES = {
    "best_rq": {"task": {"probe_every": 2, "probe_utterances": 4}},
    "birq": {"criterion": {"log_grad_every": 2}, "model": {"targets": {"own_layer": {"diversity_weight": 0.1}}}},
    "latent_rq": STAGES,
    "relabelling": {},
    "hubert": {},
    "finetune": {},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = write_corpus(tmp_path_factory.mktemp("corpus"))
    for split in ("train", "valid"):
        write_labels(folder / "labels" / split, folder / f"{split}.tsv", num_codebooks=2, codebook_size=64)
        write_labels(folder / "clusters" / split, folder / f"{split}.tsv", num_codebooks=1, codebook_size=16)
    return folder


def assert_close(ours, cpus):
    """What was logged. A frame whose two best codes are equal to float32's last digits may have either of them."""
    assert len(ours) == len(cpus) and ours
    for mine, theirs in zip(ours, cpus):
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            of_few_frames = any(part in key for part in ("accuracy", "sampled", "churn", "probe", "entropy", "perplexity"))
            if value not in (None, "null"):
                assert float(mine[key]) == pytest.approx(float(value), rel=2e-2 if of_few_frames else 2e-4, abs=5e-2), key


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_mixes_no_devices_and_has_the_cpus_numbers(gpu, repository, corpus, tmp_path, recipe):
    files = {
        "best_rq": {"task": {"probe_alignment": str(corpus / "valid.phn")}},
        "relabelling": {"model": {"targets": {"label_file": {"path": str(corpus / "labels")}}}},
        "hubert": {"model": {"targets": {"label_file": {"path": str(corpus / "clusters")}}}},
    }
    change = files.get(recipe, {})
    on_cpu, _ = on_device.train(repository, recipe, corpus, tmp_path / "cpu", RECIPES[recipe], change)
    with gpu.recording() as record:
        found, last = on_device.train(repository, recipe, corpus, tmp_path / "device", RECIPES[recipe], change, device=gpu.device)
    assert record.lines("mismatches") == {}
    assert record.totals()["launches"] > 500
    assert_close(found, on_cpu)
    assert last["optimizer_history"][-1]["num_updates"] == 4
