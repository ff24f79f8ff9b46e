"""How alike the layers of two checkpoints are: linear centred kernel alignment."""

from types import SimpleNamespace

import torch
from torch import Tensor

from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.errors import UserError
from fairseq_birq.measures.frames import collect, rows_of_minutes


def linear_cka(x: Tensor, y: Tensor) -> float:
    """`||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F)` of centred x and y (Kornblith et al. 2019, arXiv 1905.00414, section 3).

    1 for the same up to rotation, shift and scale; 0 where nothing is linearly related, or one of them is constant.

    x: (M, d), y: (M, e) float, the same frames
    """
    x, y = (z.double() - z.double().mean(0) for z in (x, y))
    norms = (x.t() @ x).norm() * (y.t() @ y).norm()
    return float((y.t() @ x).square().sum() / norms) if norms > 0 else 0.0


def cka_of_checkpoints(first, second, manifest, minutes: float = 5.0) -> Tensor:
    """(layers + 1, layers + 1) float64: linear CKA of all layers of two checkpoints, 0 = what enters the first.

    Raises:
        UserError: their frames are not the same ones.
    """
    hidden = []
    for checkpoint in (first, second):
        encoder = load_encoder(checkpoint)
        rows = rows_of_minutes(manifest, minutes, encoder.frontend.sample_rate)
        layers = range(encoder.encoder.num_layers + 1)
        hidden.append(collect(SimpleNamespace(speech_encoder=encoder), manifest, layers=layers, rows=rows)[1])
    if len(hidden[0][0]) != len(hidden[1][0]):
        raise UserError(f"{first} and {second} have other frames of the same audio: layers cannot be compared")
    return torch.tensor([[linear_cka(x, y) for y in hidden[1].values()] for x in hidden[0].values()], dtype=torch.float64)
