"""The contract of probes, over the registry: a planted layer is found, noise stays at chance, padding counts for nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fairseq_birq.data.transcripts import to_letters
from fairseq_birq.errors import UserError
from fairseq_birq.tools.probes import PROBES, training
from fairseq_birq.tools.probes.base import LEFT_OUT, Batch, Settings
from fairseq_birq.tools.probes.runner import encode
from fairseq_birq.tools.probes.states import StateStore
from fairseq_birq.tools.probes.training import Split, evaluate, fit, seeded

LAYERS, DIM, PLANTED, CLASSES = 4, 8, 3, 4
STEP_MS = 40.0
SETTINGS = Settings(updates=100, lr=0.03, batch_size=16, size=16)
LONGER = {"asr": replace(SETTINGS, updates=200)}  # CTC's error is still falling at 100
NAMES = "abcd"


@pytest.fixture(autouse=True)
def few_evaluations(monkeypatch):
    monkeypatch.setattr(training, "EVALUATIONS", 4)


def planted(task, folder, split, signal=3.0, utterances=48):
    """Label file and states: noise in every layer, and in one of them a vector per class beside it."""
    rng = np.random.default_rng([utterances, len(split)])
    vectors = np.random.default_rng(1).standard_normal((CLASSES, DIM)) * signal
    rows, lines, lengths = [], [], rng.integers(6, 10, size=utterances)
    for row, length in enumerate(lengths):
        ids = rng.integers(CLASSES, size=length if task == "phone" else 2 if task in ("asr", "ic") else 1)
        times = ids[np.arange(length) * len(ids) // length]
        x = rng.standard_normal((length, LAYERS + 1, DIM))
        x[:, PLANTED] += vectors[times] if task != "ic" else vectors[ids[0]] + np.roll(vectors[ids[1]], 3)
        rows.append(x.astype(np.float16))
        lines.append(line_of(task, row, [NAMES[index] for index in ids]))
    header = "utt_index\tstart_s\tend_s\tphone\n" if task == "phone" else ""
    (folder / f"{split}.{PROBES[task].suffix}").write_text(header + "".join(lines))
    return StateStore(np.concatenate(rows), lengths)


def line_of(task, row, names):
    if task == "phone":
        return "".join(f"{row}\t{0.04 * frame}\t{0.04 * (frame + 1)}\t{name}\n" for frame, name in enumerate(names))
    return f"{to_letters(''.join(names)) if task == 'asr' else chr(9).join(names)}\n"


def probed(task, folder, signal=3.0, settings=None, seed=1):
    """A trained probe, its fit and what it reaches on test."""
    settings = settings or LONGER.get(task, SETTINGS)
    names = ("train", "valid", "testing")  # of different lengths: seeds
    stores = [planted(task, folder, split, signal, 64) for split in names]
    symbols = [
        PROBES[task].read(folder / f"{name}.{PROBES[task].suffix}", store.lengths.tolist(), STEP_MS / 1000)
        for name, store in zip(names, stores)
    ]
    classes, targets = encode(symbols)
    stores = stores if PROBES[task].needs_frames else [store.means() for store in stores]
    train, dev, test = (Split(*parts) for parts in zip(stores, targets))
    with seeded(seed):
        probe = PROBES[task](LAYERS + 1, DIM, classes, settings.size, STEP_MS)
        found = fit(probe, train, dev, settings, seed)
    chance = probe.chance(targets[0], targets[2])
    return found, evaluate(found.probe, test)[probe.measure], chance


@pytest.mark.parametrize("task", PROBES)
def test_the_planted_layer_wins_and_is_heard(task, tmp_path):
    found, score, chance = probed(task, tmp_path)
    weights = found.probe.layer_sum.weights.detach()
    assert int(weights.argmax()) == PLANTED and float(weights.sum()) == pytest.approx(1) and weights.min() > 0
    assert weights[PLANTED] > 0.3
    assert score > 85 > chance + 30 if found.probe.higher_is_better else score < 15 < chance - 30


@pytest.mark.parametrize("task", PROBES)
def test_noise_stays_at_chance(task, tmp_path):
    _, score, chance = probed(task, tmp_path, signal=0.0)
    expected = 6.25 if task == "ic" else chance  # two slots of four
    assert score > 60 if task == "asr" else abs(score - expected) < 13


@pytest.mark.parametrize("task", ["asr", "phone", "sid"])
def test_equal_seeds_give_equal_numbers_and_torchs_generator_is_left_alone(task, tmp_path):
    short = Settings(updates=10, lr=0.02, batch_size=16, size=8)
    before = torch.get_rng_state()
    first, again, other = (probed(task, tmp_path, settings=short, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.curve == again.curve
    weights = [found.probe.state_dict() for found in (first, again, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not torch.equal(weights[0]["layer_sum.logits"], weights[2]["layer_sum.logits"])


@pytest.mark.parametrize("task", PROBES)
def test_padding_counts_for_nothing(task):
    torch.manual_seed(0)
    classes = ["0:a", "0:b", "1:a"] if task == "ic" else ["a", "b", "c"]
    probe = PROBES[task](LAYERS + 1, DIM, classes, 8, STEP_MS).eval()
    states = torch.randn(2, 7, LAYERS + 1, DIM)
    together = Batch(states, torch.tensor([7, 3]), [torch.zeros(2, dtype=torch.int64)] * 2)
    alone = Batch(states[1:, :3], torch.tensor([3]), together.targets[1:])
    (_, padded), (short,) = probe.outputs(together), probe.outputs(alone)
    assert torch.allclose(padded, short, atol=1e-6) and len(padded)


@pytest.mark.parametrize("task", [task for task, kind in PROBES.items() if not kind.needs_frames])
def test_means_over_time_say_what_the_frames_say(task, tmp_path):
    store = planted(task, tmp_path, "train")
    probe = PROBES[task](LAYERS + 1, DIM, ["0:a", "1:b"], 8, STEP_MS).eval()
    rows, targets = list(range(len(store))), [torch.zeros(2, dtype=torch.int64)] * len(store)
    outputs = [torch.stack(probe.outputs(Batch(*part.batch(rows), targets))) for part in (store, store.means())]
    assert torch.allclose(*(output.float() for output in outputs), atol=1e-5)


def test_dev_chooses_the_stopping_point():
    """A probe that gets worse by training keeps the state of its best evaluation."""

    class Fickle(PROBES["sid"]):
        evaluations = 0

        def measures(self, outputs, targets, trials=None):
            self.evaluations += 1
            return {"accuracy": [50, 70, 70, 60][self.evaluations - 1]}

    store = StateStore(np.ones((8, 2, 3), dtype=np.float32), [1] * 8)
    split = Split(store, [torch.tensor([row % 2]) for row in range(8)])
    found = fit(Fickle(2, 3, ["a", "b"], 4, STEP_MS), split, split, Settings(updates=4, batch_size=3), seed=1)
    assert found.stopped_at == 3 and found.dev == {"accuracy": 70}
    assert found.curve == {1: 50, 2: 70, 3: 70, 4: 60} and not found.probe.training


def test_symbols_of_dev_and_test_alone_are_no_class_and_differ():
    classes, (train, test) = encode([[["b", "", "a"]], [["c", "a"], ["d", "", "c"]]])
    assert classes == ["a", "b"] and train[0].tolist() == [1, LEFT_OUT, 0]
    assert [row.tolist() for row in test] == [[2, 0], [3, LEFT_OUT, 2]]


def test_letters_and_words_of_asr():
    probe = PROBES["asr"](2, 3, ["a", "b", "|"], 4, STEP_MS)
    assert probe.upsample == 2 and PROBES["asr"](2, 3, ["a"], 4, 20.0).upsample == 1
    target, guess = torch.tensor([0, 1, 2, 0, 7]), torch.tensor([0, 1, 2, 0])
    assert probe.measures([guess], [target]) == {"cer": 20.0, "wer": 50.0}  # "ab a?" against "ab a"
    lengths = torch.tensor([1, 2, 2])  # two CTC outputs each frame; "aa" needs three
    targets = [torch.tensor([0, 0]), torch.tensor([0, 0]), torch.tensor([0, 1, 0, 1, 0])]
    assert probe.count_too_long(targets, lengths) == 2


@pytest.mark.parametrize(
    "task, text, part",
    [
        ("sid", "anna\n\n", "line 2: is empty"),
        ("ic", "a\tb\na\n", r"line 2: must have 2 tab-separated slots"),
        ("phone", "utt_index\tstart_s\tend_s\tphone\n9\t0\t1\ta\n", "no frame of the manifest has a phone"),
        ("ks", "yes\n", "1 lines, but the manifest beside it has 2 rows"),
    ],
)
def test_label_files_that_cannot_be_meant_are_named(tmp_path, task, text, part):
    path = tmp_path / f"train.{PROBES[task].suffix}"
    path.write_text(text)
    with pytest.raises(UserError, match=f"train.*{part}"):
        PROBES[task].read(path, [5, 5], 0.04)
