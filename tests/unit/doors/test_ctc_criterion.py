import logging
from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics
from torch import nn

from fairseq_birq.ctc import CtcOutput
from fairseq_birq.decoding import DECODERS
from fairseq_birq.decoding.base import frames_needed
from fairseq_birq.doors.ctc_criterion import BirqCtcCriterion

SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "|"]
A, B, BOUNDARY, PAD = 4, 5, 6, 1


class ScoreModel(nn.Module):
    """Gives stored logits, whatever it hears."""

    def __init__(self, logits, frames):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.padding_mask = torch.arange(logits.shape[1])[None, :] >= torch.tensor(frames)[:, None]

    def forward(self, rows):
        return CtcOutput(self.logits[rows], self.padding_mask[rows])

    def get_normalized_probs(self, net_output, log_probs, sample=None):
        return net_output.logits.float().log_softmax(-1)


def criterion(sentence_avg=False):
    task = SimpleNamespace(
        target_dictionary=None,
        blank=0,
        greedy_decoder=DECODERS["greedy"](0, (1, 2, 3)),
        text=lambda tokens: "".join(SYMBOLS[token] for token in tokens.tolist()).replace("|", " ").strip(),
    )
    return BirqCtcCriterion(task, sentence_avg)


def batch(*targets):
    rows = torch.arange(len(targets))
    lengths = torch.tensor([len(target) for target in targets], dtype=torch.long)
    tensors = [torch.tensor(target) for target in targets]
    padded = nn.utils.rnn.pad_sequence(tensors, True, PAD) if targets else torch.zeros(0, 0, dtype=torch.long)
    return {
        "id": rows,
        "net_input": {"rows": rows},
        "target": padded,
        "target_lengths": lengths,
        "ntokens": int(lengths.sum()),
        "bad_audio": 0,
    }


def scores(num_utterances, num_frames, seed=0):
    return torch.randn(num_utterances, num_frames, len(SYMBOLS), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "target, needed", [([], 0), ([A], 1), ([A, B], 2), ([A, A], 3), ([A, A, A, B], 6), ([A, BOUNDARY, BOUNDARY], 4)]
)
def test_frames_needed(target, needed):
    padded = torch.tensor([target + [PAD] * (5 - len(target))])
    assert frames_needed(padded, torch.tensor([len(target)])).tolist() == [needed]


def test_loss_is_the_negative_log_probability_of_all_paths():
    """Two frames, target `a`: the paths are aa, a-, -a."""
    logits = scores(1, 2)
    p = logits[0].softmax(-1)
    expected = -(p[0, A] * p[1, A] + p[0, A] * p[1, 0] + p[0, 0] * p[1, A]).log()
    loss, _, _ = criterion()(ScoreModel(logits, [2]), batch([A]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_is_the_sum_of_its_utterances_whatever_its_padding():
    logits, targets, frames = scores(2, 8), ([A, B, BOUNDARY], [B]), [8, 5]
    joined, _, _ = criterion()(ScoreModel(logits, frames), batch(*targets))
    single = [criterion()(ScoreModel(logits[i : i + 1, : frames[i]], [frames[i]]), batch(targets[i]))[0] for i in (0, 1)]
    assert joined.item() == pytest.approx(sum(single).item(), rel=1e-5)


@pytest.mark.parametrize("sentence_avg, sample_size", [(False, 4), (True, 2)])
def test_sample_size(sentence_avg, sample_size):
    _, size, output = criterion(sentence_avg)(ScoreModel(scores(2, 8), [8, 8]), batch([A, B, BOUNDARY], [B]))
    assert size == output["sample_size"] == sample_size
    assert output["ntokens"] == 4 and output["nsentences"] == 2


def test_too_long_targets_are_counted_named_once_and_give_no_gradient(caplog):
    model, sample = ScoreModel(scores(2, 4), [4, 4]), batch([A, A, A], [A, B])
    tested = criterion()
    with caplog.at_level(logging.WARNING):
        loss, _, output = tested(model, sample)
        tested(model, sample)
    loss.backward()
    assert output["too_long_targets"] == 1
    assert torch.isfinite(loss) and not model.logits.grad[0].any() and model.logits.grad[1].any()
    assert len(caplog.records) == 1
    assert "1 of 2 utterances" in caplog.text and "rows [0]" in caplog.text and "model.upsample=2" in caplog.text


def test_the_loss_is_float32_under_half_precision_scores():
    logits = scores(1, 6)
    loss, _, _ = criterion()(ScoreModel(logits.bfloat16(), [6]), batch([A, B]))
    assert loss.dtype == torch.float32
    expected, _, _ = criterion()(ScoreModel(logits.bfloat16().float(), [6]), batch([A, B]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape, frames, targets", [((0, 3), [], ()), ((2, 0), [0, 0], ([A], [B, A]))])
def test_a_batch_without_utterances_or_frames_is_a_finite_zero(training, shape, frames, targets):
    model = ScoreModel(scores(*shape), frames).train(training)
    loss, sample_size, output = criterion()(model, batch(*targets))
    loss.backward()
    assert loss.item() == 0.0 and model.logits.grad is not None
    assert sample_size == sum(map(len, targets)) and output["too_long_targets"] == len(targets)


def evaluated(targets, seed=3):
    model = ScoreModel(scores(len(targets), 9, seed) * 4, [9] * len(targets)).eval()
    return criterion()(model, batch(*targets))[2]


def test_error_rates_of_parts_are_those_of_the_whole():
    first, second = evaluated([[A, BOUNDARY, B]], 1), evaluated([[B], [A, A]], 2)
    with metrics.aggregate(new_root=True) as together:
        BirqCtcCriterion.reduce_metrics([first, second])
    with metrics.aggregate(new_root=True) as in_turn:
        BirqCtcCriterion.reduce_metrics([first])
        BirqCtcCriterion.reduce_metrics([second])
    values, expected = in_turn.get_smoothed_values(), together.get_smoothed_values()
    for name, total in (("wer", "word"), ("cer", "letter")):
        errors = first[f"{total}_errors"] + second[f"{total}_errors"]
        rate = 100.0 * errors / (first[f"num_{total}s"] + second[f"num_{total}s"])
        assert values[name] == expected[name] == pytest.approx(rate, abs=1e-3)


def test_perfect_scores_have_no_errors():
    path = torch.tensor([A, 0, A, BOUNDARY, B])
    logits = nn.functional.one_hot(path, len(SYMBOLS))[None].float() * 20
    output = criterion()(ScoreModel(logits, [5]).eval(), batch([A, A, BOUNDARY, B]))[2]
    assert output["word_errors"] == output["letter_errors"] == 0 and output["num_words"] == 2


def test_every_process_logs_the_same_keys():
    """fairseq sums logging outputs over processes key by key."""
    empty = criterion()(ScoreModel(scores(0, 3), []).eval(), batch())[2]
    assert set(empty) == set(evaluated([[A]]))
