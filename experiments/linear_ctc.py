"""How readable are letters in a frozen layer? One linear layer and CTC, trained on frames that were computed once."""

import numpy as np
import torch
from torch.nn import functional as F

from fairseq_birq.decoding.errors import count_errors

BLANK = 0  # letter k of the alphabet is k + 1
UPSAMPLE = 2  # CTC outputs per frame of 40 ms: at 25 Hz letters would not fit


def letter_error_rate(train_x, train_texts, test_x, test_texts, updates=1500, lr=3e-3, batch=16, dropout=0.1, seed=1):
    """Per cent, greedy, no language model; the spaces between words are letters.

    Args:
        train_x, test_x: [(T, d) float per utterance]; every dimension is standardised with the training frames' statistics.
        train_texts, test_texts: ["a | c a t |" per utterance]
        updates: of Adam, learning rate warmed up over a tenth and then falling to zero on a straight line.
    """
    joined = torch.from_numpy(np.concatenate(train_x)).float()
    mean, deviation = joined.mean(0), joined.std(0).clamp(min=1e-5)
    train_x, test_x = ([(torch.from_numpy(x).float() - mean) / deviation for x in part] for part in (train_x, test_x))
    alphabet = sorted({letter for text in train_texts for letter in text.split()})
    targets = [torch.tensor([1 + alphabet.index(letter) for letter in text.split()]) for text in train_texts]
    output = fit(train_x, targets, 1 + len(alphabet), updates, lr, batch, dropout, seed)
    guesses = [greedy(log_probs(output, x[None])[0], alphabet) for x in test_x]
    return count_errors([_text(text.split()) for text in test_texts], guesses).cer


def fit(frames, targets, classes, updates, lr, batch, dropout, seed):
    """The linear layer. frames: [(T, d)]; targets: [(L,) int64 from 1]"""
    generator = torch.Generator().manual_seed(seed)
    output = torch.nn.Linear(frames[0].shape[1], UPSAMPLE * classes)
    torch.nn.init.zeros_(output.weight)
    torch.nn.init.zeros_(output.bias)
    optimizer = torch.optim.Adam(output.parameters(), lr=lr)
    shape = [lambda step: min((step + 1) / (0.1 * updates), (updates - step) / (0.9 * updates))]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
    for _ in range(updates):
        rows = torch.randperm(len(frames), generator=generator)[:batch].tolist()
        x = torch.nn.utils.rnn.pad_sequence([frames[row] for row in rows], batch_first=True)
        keep = torch.rand(x.shape, generator=generator) >= dropout
        lengths, letters = [UPSAMPLE * len(frames[row]) for row in rows], [targets[row] for row in rows]
        scores = log_probs(output, x * keep / (1 - dropout)).transpose(0, 1)
        sizes = [len(row) for row in letters]
        loss = F.ctc_loss(scores, torch.cat(letters), lengths, sizes, blank=BLANK, reduction="sum", zero_infinity=True)
        optimizer.zero_grad()
        (loss / sum(sizes)).backward()
        torch.nn.utils.clip_grad_norm_(output.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return output


def log_probs(output, x):
    """(B, T, d) -> (B, UPSAMPLE * T, classes)"""
    return output(x).view(x.shape[0], UPSAMPLE * x.shape[1], -1).log_softmax(-1)


def greedy(scores, alphabet):
    """The text of the best symbol of every output, repetitions and blanks removed. scores: (T, classes)"""
    best = torch.unique_consecutive(scores.argmax(-1)).tolist()
    return _text([alphabet[symbol - 1] for symbol in best if symbol != BLANK])


def _text(letters):
    return " ".join("".join(letters).replace("|", " ").split())
