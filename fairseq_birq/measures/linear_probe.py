"""How much a layer says about phones: the accuracy of one linear layer on frozen frames."""

import torch
from torch import Tensor
from torch.nn import functional as F


def linear_accuracy(
    train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, l2: float = 1e-4, steps: int = 100
) -> float:
    """Share of test frames whose class multinomial logistic regression names, fitted by L-BFGS from zero.

    Frames of class -1 are left out; every dimension is standardised with the training frames' statistics.

    Args:
        train_x, test_x: (M, d) float.
        train_y, test_y: (M,) int64.
        l2: factor on the squared weights.
        steps: L-BFGS iterations.
    """
    (train_x, train_y), (test_x, test_y) = ((x[y >= 0].float(), y[y >= 0]) for x, y in ((train_x, train_y), (test_x, test_y)))
    mean, deviation = train_x.mean(0), train_x.std(0).clamp(min=1e-5)
    train_x, test_x = (train_x - mean) / deviation, (test_x - mean) / deviation
    num_classes = int(torch.cat([train_y, test_y]).max()) + 1
    weight = torch.zeros(num_classes, train_x.shape[1], device=train_x.device, requires_grad=True)
    bias = torch.zeros(num_classes, device=train_x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(train_x, weight, bias), train_y) + l2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return float((F.linear(test_x, weight, bias).argmax(-1) == test_y).double().mean())
