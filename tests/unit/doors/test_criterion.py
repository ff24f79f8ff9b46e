"""Criterion `birq`: weights by name, what is logged, and the collapse alarm."""

import math

import pytest
import torch
from fairseq.logging import metrics

from fairseq_birq.doors.code_logging import CodeHistogramMeter
from fairseq_birq.doors.criterion import BirqCriterion
from fairseq_birq.errors import UserError
from fairseq_birq.model import PretrainingOutput
from fairseq_birq.objective.losses import LossTerm
from tests.fixtures.models import batch, latent_rq


class Model:
    """Stands for the model: says what it was given and returns what it is told to."""

    def __init__(self, output, num_updates=0):
        self.output, self.num_updates, self.targets = output, num_updates, list(output.terms)

    def __call__(self, weights):
        self.weights = weights
        return self.output


def criterion(**changes):
    settings = dict(task=None, weights={}, warmup_updates={}, start_updates={}, log_grad_every=0)
    settings.update(collapse_min_perplexity=0.0, collapse_patience=3, collapse_action="warn")
    return BirqCriterion(**{**settings, **changes})


def output(histogram=((6, 2, 0, 0),), loss=16.0, correct=(4.0,), codes=(0,) * 8):
    histogram = torch.tensor(histogram)
    term = LossTerm(torch.full((len(histogram),), loss), torch.tensor(correct), histogram, torch.tensor(codes)[:, None])
    return PretrainingOutput(torch.tensor(loss, requires_grad=True), {"raw_input": term}, 8, 20, 5, 0.8)


SAMPLE = {"id": torch.arange(2), "net_input": {}, "bad_audio": 1}


def run(subject, **changes):
    return subject(Model(output(**changes)), SAMPLE)


def test_loss_is_a_sum_over_masked_frames_with_a_gradient():
    loss, sample_size, _ = run(criterion())
    assert loss.item() == 16.0 and sample_size == 8
    loss.backward()


def test_weights_go_to_the_model_by_name_and_follow_their_schedule():
    subject = criterion(weights={"raw_input": 2.4}, start_updates={"raw_input": 10}, warmup_updates={"raw_input": 3})
    seen = []
    for update in (0, 9, 10, 11, 13, 500):
        model = Model(output(), update)
        subject(model, SAMPLE)
        seen.append(model.weights["raw_input"])
    assert seen == pytest.approx([0, 0, 0.6, 1.2, 2.4, 2.4])


def test_churn_is_the_share_of_codes_that_changed_since_the_last_validation():
    subject = criterion().eval()
    first = run(subject, codes=(0, 1, 2, 3, 0, 1, 2, 3))[2]
    second = run(subject, codes=(0, 1, 2, 3, 3, 2, 2, 3))[2]
    assert (float(first["changed.raw_input"]), first["compared.raw_input"]) == (0.0, 0)
    assert (float(second["changed.raw_input"]), second["compared.raw_input"]) == (2.0, 8)
    with metrics.aggregate(new_root=True) as aggregate:
        BirqCriterion.reduce_metrics([second])
    assert aggregate.get_smoothed_values()["churn_raw_input"] == pytest.approx(0.25)
    with metrics.aggregate(new_root=True) as aggregate:
        BirqCriterion.reduce_metrics([first])
    assert "churn_raw_input" not in aggregate.get_smoothed_values()


def test_groups_of_label_columns_and_the_stage_are_logged_beside_the_source():
    logs = []
    for _ in range(2):  # two batches, or two processes
        given = output(histogram=((6, 2, 0, 0), (8, 0, 0, 0), (2, 2, 2, 2)), correct=(4.0, 2.0, 0.0))
        given.columns, given.stage = {"raw_input": ("layer1", "layer1", "layer7")}, 2
        logs.append(criterion()(Model(given), SAMPLE)[2])
    for outputs in (logs, [{key: logs[0][key] + logs[1][key] for key in logs[0]}]):
        with metrics.aggregate(new_root=True) as aggregate:
            BirqCriterion.reduce_metrics(outputs)
        values = aggregate.get_smoothed_values()
        assert values["stage"] == 2
        assert values["accuracy_raw_input_layer1"] == pytest.approx(3 / 8) and values["accuracy_raw_input_layer7"] == 0
        assert values["accuracy_raw_input"] == pytest.approx(2 / 8)
        assert values["top_share_raw_input_layer1"] == pytest.approx(7 / 8)
        assert values["used_share_raw_input_layer7"] == 1
        assert values["perplexity_raw_input_layer7"] == pytest.approx(4.0)
        assert "loss_raw_input_2" in values and "loss_raw_input_layer1_0" not in values


def test_what_the_reward_rewards_is_logged_per_masked_frame():
    given = output()
    given.terms["raw_input"].diversity_loss = torch.tensor(-12.0)
    with metrics.aggregate(new_root=True) as aggregate:
        BirqCriterion.reduce_metrics([criterion()(Model(given), SAMPLE)[2]] * 2)
    assert aggregate.get_smoothed_values()["mean_label_entropy_raw_input"] == pytest.approx(12 / 8)


def test_nothing_is_said_of_stages_and_groups_where_there_are_none():
    with metrics.aggregate(new_root=True) as aggregate:
        BirqCriterion.reduce_metrics([run(criterion())[2]])
    assert not any(key == "stage" or "layer" in key for key in aggregate.get_smoothed_values())


def test_gradient_norms_are_of_the_sources_that_have_targets_by_now():
    model, subject = latent_rq(use=["raw_input", "snapshot"]), criterion(log_grad_every=1)
    sample = {**SAMPLE, "net_input": batch([1.5, 1.0])}
    assert [key for key in subject(model, sample)[2] if key.startswith("gradient_norm")] == ["gradient_norm.raw_input"]
    model.set_num_updates(3)
    norms = {key: float(value) for key, value in subject(model, sample)[2].items() if key.startswith("gradient_norm")}
    assert sorted(norms) == ["gradient_norm.raw_input", "gradient_norm.snapshot"] and min(norms.values()) > 0


def test_measuring_gradients_changes_nothing_else():
    """Neither statistics of hidden states nor random numbers."""
    states, sample = [], {**SAMPLE, "net_input": batch([1.5, 1.0])}
    for every in (0, 1):
        use, noisy = ["raw_input", "own_layer", "snapshot"], {"dropout": 0.1}
        model = latent_rq(use=use, statistics_batches=5, other={"parts": {"encoder": noisy}})
        model.set_num_updates(3)
        subject = criterion(log_grad_every=every)
        torch.manual_seed(0)
        logs = [subject(model, sample)[2] for _ in range(2)]  # two batches of an update
        assert ("gradient_norm.snapshot" in logs[0]) == bool(every)
        states.append([*(value for value in model.state_dict().values() if torch.is_tensor(value)), torch.get_rng_state()])
    assert all(torch.equal(without, measured) for without, measured in zip(*states))


def test_churn_of_a_snapshot_is_none_within_a_stage_and_almost_all_after_the_first():
    model, subject, sample, shares = latent_rq(), criterion().eval(), {**SAMPLE, "net_input": batch([1.5, 1.0])}, []
    for update in (0, 2, 3, 4):  # a stage begins at 3
        model.train().set_num_updates(update)
        model(**sample["net_input"])
        logged = subject(model.eval(), sample)[2]
        shares.append(float(logged["changed.snapshot"]) / max(1, logged["compared.snapshot"]))
    assert shares[1] == shares[3] == 0 and shares[2] > 0.8


def test_batches_of_two_validation_sets_are_not_taken_for_one_another():
    subject = criterion().eval()
    run(subject)
    other = output(codes=(1,) * 8)
    other.num_frames = 30
    assert subject(Model(other), SAMPLE)[2]["compared.raw_input"] == 0


def test_a_misspelt_source_is_named(caplog):
    with pytest.raises(SystemExit):
        run(criterion(weights={"raw_imput": 1.0}))
    assert "raw_imput" in caplog.text and "raw_input" in caplog.text


def test_logged_numbers_of_two_processes_are_those_of_all_frames():
    logs = [run(criterion())[2], run(criterion(), histogram=((0, 2, 0, 6),), loss=32.0, correct=(2.0,))[2]]
    with metrics.aggregate(new_root=True) as aggregate:
        BirqCriterion.reduce_metrics(logs)
    values = aggregate.get_smoothed_values()
    assert values["loss_raw_input"] == pytest.approx(48 / 16)
    assert values["accuracy_raw_input"] == pytest.approx(6 / 16)
    assert values["top_share_raw_input"] == pytest.approx(6 / 16)
    assert values["used_share_raw_input"] == pytest.approx(3 / 4)
    entropy = -2 * (6 / 16) * math.log(6 / 16) - (4 / 16) * math.log(4 / 16)
    assert values["perplexity_raw_input"] == pytest.approx(math.exp(entropy), rel=1e-3)
    assert values["mask_coverage"] == pytest.approx(16 / 40) and values["padding_share"] == pytest.approx(10 / 50)
    assert values["bad_audio"] == 2


def test_perplexity_is_that_of_an_interval_not_the_mean_of_batches():
    with metrics.aggregate(new_root=True) as aggregate:
        for histogram in (((8, 0, 0, 0),), ((0, 8, 0, 0),)):
            BirqCriterion.reduce_metrics([run(criterion(), histogram=histogram)[2]])
    assert aggregate.get_smoothed_values()["perplexity_raw_input"] == pytest.approx(2.0)


def test_meters_survive_a_checkpoint():
    with metrics.aggregate(new_root=True) as aggregate:
        BirqCriterion.reduce_metrics([run(criterion())[2]])
    state = aggregate.state_dict()
    aggregate.load_state_dict(state)
    meter = aggregate["_histogram_raw_input"]
    assert isinstance(meter, CodeHistogramMeter) and meter.histogram.sum() == 8


def test_collapse_warns_after_patience_and_not_before(caplog):
    subject = criterion(collapse_min_perplexity=3.0)
    logs = [run(subject)[2]]
    for _ in range(3):
        assert "collapsed" not in caplog.text
        subject.watch_collapse(logs)
    assert "raw_input" in caplog.text and "collapsed" in caplog.text


def test_collapse_counts_consecutive_updates_and_can_stop():
    subject = criterion(collapse_min_perplexity=3.0, collapse_action="stop")
    few, many = [run(subject)[2]], [run(subject, histogram=((2, 2, 2, 2),))[2]]
    for logs in (few, few, many, few, few):
        subject.watch_collapse(logs)
    with pytest.raises(UserError, match="collapsed"):
        subject.watch_collapse(few)
