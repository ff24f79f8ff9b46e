"""The pictures that `birq-plot` knows: from files to a picture, by kind."""

import logging
from pathlib import Path

from fairseq_birq.measures.similarity import cka_of_checkpoints
from fairseq_birq.tools.pictures import code_usage, curves, embeddings, layer_weights, similarity, utterance
from fairseq_birq.tools.pictures.drawing import short_names

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq makes every library's debug lines visible


def draw_curves(logs, out) -> None:
    """Several runs in one plot. logs: PATH or NAME=PATH"""
    named = [entry.rpartition("=") for entry in logs]
    curves.draw(curves.compared_panels({name or _run_name(path): curves.read_log(path) for name, _, path in named}), out)


def _run_name(path) -> str:
    path = Path(path)
    return path.parent.name if path.name in ("train.log", "log.json") and path.parent.name else path.stem


def draw_layer_weights(weights, out) -> None:
    layer_weights.draw(layer_weights.read_weights(weights), out)


def draw_codes(checkpoint, out, source, column, **where) -> None:
    found = code_usage.codes_and_phones(checkpoint, source=source, column=column, **where)
    code_usage.draw(*found, out, title=f"{source}, codebook {column}")


def draw_embeddings(checkpoints, out, **options) -> None:
    embeddings.draw_of_checkpoints(checkpoints, path=out, **options)


def draw_utterance(checkpoint, out, **options) -> None:
    utterance.draw(utterance.of_checkpoint(checkpoint, **options), out)


def draw_similarity(checkpoints, manifest, out, minutes) -> None:
    similarity.draw(cka_of_checkpoints(*checkpoints, manifest, minutes), out, short_names(checkpoints))
