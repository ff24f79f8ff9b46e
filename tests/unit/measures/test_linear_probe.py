"""The linear probe against scikit-learn's logistic regression."""

import pytest
import torch

from fairseq_birq.measures.linear_probe import linear_accuracy


def blobs(seed, frames=400, dim=5, classes=4, noise=1.5):
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(9)) * 2 + 3
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (frames,), generator=generator)
    return centres[y] + noise * torch.randn(frames, dim, generator=generator), y


def test_accuracy_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    (train_x, train_y), (test_x, test_y) = blobs(1), blobs(2)
    # l2 * |w|^2 beside a mean over M frames is C = 1 / (2 * l2 * M) in scikit-learn
    model = linear_model.LogisticRegression(C=1 / (2 * 1e-4 * len(train_y)), max_iter=1000)
    scaled = (train_x - train_x.mean(0)) / train_x.std(0), (test_x - train_x.mean(0)) / train_x.std(0)
    theirs = model.fit(scaled[0].numpy(), train_y.numpy()).score(scaled[1].numpy(), test_y.numpy())
    ours = linear_accuracy(train_x, train_y, test_x, test_y)
    assert 0.5 < ours < 0.99 and abs(ours - theirs) < 0.011


def test_frames_without_a_class_count_for_nothing():
    (train_x, train_y), (test_x, test_y) = blobs(1), blobs(2)
    silent_x, silent_y = torch.full((50, 5), 100.0), torch.full((50,), -1)
    pairs = (train_x, silent_x), (train_y, silent_y), (test_x, silent_x), (test_y, silent_y)
    with_silence = [torch.cat(pair) for pair in pairs]
    assert linear_accuracy(*with_silence) == linear_accuracy(train_x, train_y, test_x, test_y)
