"""How alike the layers of two checkpoints are, as a heat map."""

from typing import Sequence

from torch import Tensor

from fairseq_birq.tools.pictures.drawing import heat_map, picture


def draw(similarity: Tensor, path, names: Sequence[str]) -> None:
    """A heat map; the layers of the first checkpoint from top to bottom. names: of the two checkpoints"""
    rows, columns = similarity.shape
    with picture(path, height_cm=min(16.0, 3.2 + 0.8 * rows), width_cm=min(17.0, 5.5 + 1.1 * columns)) as figure:
        axes = figure.subplots()
        heat_map(axes, similarity, range(rows), range(columns), "linear CKA", low=0, high=1)
        axes.set(xlabel=f"layer of {names[1]}", ylabel=f"layer of {names[0]}")
