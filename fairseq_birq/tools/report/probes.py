"""What frozen-encoder probes found, from the `results.json` of `birq-probe`."""

import json
from pathlib import Path
from typing import List
from xml.etree.ElementTree import Element

from fairseq_birq.errors import UserError
from fairseq_birq.tools.pictures import layer_weights
from fairseq_birq.tools.report.html import missing, picture, section, table


def probes_section(path) -> Element:
    """The table of results, and a picture of what each task takes from each layer. path: results.json, or None.

    Raises:
        UserError: the file is missing or is something else.
    """
    title = "Probes"
    if path is None:
        return section("probes", title, missing("What a frozen encoder knows, measured by birq-probe", "--probes results.json"))
    results = read_results(path)
    rows = [[result["encoder"], f"{Path(result['data']).name}: {result['task']}", result["measure"],
             _number(result["test"][result["measure"]]), _number(result["dev"][result["measure"]]), _number(result["chance"])]
            for result in results]  # fmt: skip
    head = ["encoder", "corpus: task", "measure", "test", "dev", "without listening"]
    return section("probes", title, table(head, rows, "As birq-probe measured them, per cent"), *_pictures(results))


def read_results(path) -> List[dict]:
    """The results that `birq-probe --out FOLDER` kept."""
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        for result in results:
            result["test"][result["measure"]], result["dev"][result["measure"]], result["chance"]
            str(result["encoder"]), str(result["data"]), str(result["task"]), [float(w) for w in result["layer_weights"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: is no results.json of birq-probe ({type(error).__name__}: {error})") from None
    return results


def _number(value):
    return "–" if value is None else f"{value:.1f}"


def _pictures(results):
    """One per encoder: encoders may have different numbers of layers."""
    figures = []
    for encoder in dict.fromkeys(result["encoder"] for result in results):
        weights = {f"{Path(result['data']).name}: {result['task']}": result["layer_weights"]
                   for result in results if result["encoder"] == encoder and result["layer_weights"]}  # fmt: skip
        if weights:
            figure = picture(
                lambda path, weights=weights: layer_weights.draw(weights, path),
                f"Weight of each layer of {encoder}, by task",
                f"{encoder}: what each task takes from each layer",
                wide=True,
            )
            figures.append(figure)
    return figures
