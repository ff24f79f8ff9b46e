"""The flat keys of the logging outputs."""

import torch
from fairseq.logging import metrics

from fairseq_birq.doors.code_logging import add_up, log_curves
from fairseq_birq.training.code_curves import pack, unpack


def test_kinds_and_curves_come_back_from_flat_keys():
    sums = {"histogram": {"raw_input": 1, "snapshot.layer1": 2}, "nmi": {"a_b": 3}}
    packed = pack(sums)
    assert sorted(packed) == ["histogram.raw_input", "histogram.snapshot.layer1", "nmi.a_b"]
    assert unpack({"loss": 5.0, "sample_size": 8, **packed}) == sums


def test_outputs_are_added_up_key_by_key():
    first, second = {"loss": 1.0, "correct.x": torch.tensor([1, 2])}, {"loss": 2.0, "correct.x": torch.tensor([3, 5])}
    total = add_up([first, second])
    assert total["loss"] == 3.0 and total["correct.x"].tolist() == [4, 7]
    assert add_up([]) == {}


def test_every_name_that_a_log_had_is_there():
    ones = torch.ones(2)
    sums = {
        **{kind: {"own_layer": ones} for kind in ("loss", "correct", "sampled_nearest", "entropy")},
        **{"mean_label_entropy": {"own_layer": torch.tensor(3.0)}, "nmi": {"own_layer_raw_input": 0.5}},
        **{"changed": {"own_layer": 2.0}, "compared": {"own_layer": 8}, "gradient_norm": {"own_layer": 4.0}},
        "histogram": {"own_layer": torch.tensor([[3.0, 1.0]])},
    }
    with metrics.aggregate(new_root=True) as aggregate:
        log_curves(sums, frames=4.0, num_outputs=2)
    values = aggregate.get_smoothed_values()
    kinds = "loss accuracy sampled_nearest label_entropy mean_label_entropy churn gradient_norm perplexity top_share used_share"
    expected = {f"{kind}_own_layer" for kind in kinds.split()} | {
        "loss_own_layer_0",
        "loss_own_layer_1",
        "nmi_own_layer_raw_input",
    }
    assert {name for name in values if not name.startswith("_")} == expected
    assert values["churn_own_layer"] == 0.25 and values["gradient_norm_own_layer"] == 2.0
    assert values["mean_label_entropy_own_layer"] == 0.75 and values["accuracy_own_layer"] == 0.25
