"""How much downstream tasks take from each layer, as a heat map (Latent-RQ, PMLR 312:78-93, 2026, section 5)."""

import json
import math
from pathlib import Path
from typing import Dict, Sequence

from fairseq_birq.data.text import ENCODING
from fairseq_birq.errors import UserError
from fairseq_birq.tools.pictures.drawing import heat_map, picture


def read_weights(path) -> Dict[str, Sequence[float]]:
    """{task: weight of each layer} of a JSON file, layer 0 (what enters the first) first.

    Raises:
        UserError: the file is missing or is something else.
    """
    try:
        weights = json.loads(Path(path).read_text(encoding=ENCODING))
        weights = {str(task): [float(value) for value in row] for task, row in weights.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: must be JSON, {{task: [a weight per layer]}} ({error})") from None
    lengths = {len(row) for row in weights.values()}
    if len(lengths) != 1 or lengths == {0} or not all(math.isfinite(value) for row in weights.values() for value in row):
        raise UserError(f"{path}: every task needs the same number of finite weights, at least one")
    return weights


def draw(weights: Dict[str, Sequence[float]], path, layers: Sequence[str] = ()) -> None:
    """One row per task, one column per layer.

    weights: of a weighted sum of layers, after its softmax
    layers: names of the columns; by default 0, 1, ...
    """
    count = len(next(iter(weights.values())))
    with picture(path, height_cm=2.6 + 0.75 * len(weights)) as figure:
        axes = figure.subplots()
        heat_map(axes, list(weights.values()), list(weights), layers or range(count), "weight", low=0)
        axes.set(xlabel="layer (0: what enters the first)", title="what each task takes from each layer")
