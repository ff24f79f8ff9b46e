"""Candidates whose codes are fitted to the corpus first: clusters, PCA, refined random codes."""

from typing import Callable, Dict, Iterable, List, Sequence, Tuple

import torch
from torch import Tensor, nn

from fairseq_birq.objective.fitting import fit
from fairseq_birq.structs import TargetInputs
from fairseq_birq.targets.normalisation import HiddenNormalisation
from fairseq_birq.tools.audit.candidates import Candidate
from fairseq_birq.tools.relabel.fitted import FittedCodes, Held, build_vectors

KINDS: Dict[str, dict] = {  # what `--fitted` may name: settings of `FittedCodes`
    "kmeans": dict(codebook="kmeans"),
    "projected_kmeans": dict(projection="random", codebook="kmeans"),
    "pca": dict(projection="pca", codebook="random"),
    "whitened_pca": dict(projection="whitened_pca", codebook="random"),
    "refined": dict(projection="random", codebook="random", refine=10),
}


def fitted_candidates(
    cfg, encoder, layers: Sequence[int], kinds: Sequence[str], seeds: Sequence[int], passes: Callable[[], Iterable[TargetInputs]]
) -> List[Candidate]:
    """Every kind with every seed: over MFCC and log-Mel, or over layers.

    Args:
        cfg: a `BirqConfig`, whose quantizer gives N, V and D.
        layers: of the encoder; empty: MFCC and log-Mel.
        passes: begins a pass over the audio, with the hidden states of `layers`.

    Raises:
        UserError: fewer frames than codes, more components than dimensions, no scikit-learn.
    """
    places: List[Tuple[str, int]] = [("layer", layer) for layer in layers] or [("mfcc", -1), ("logmel", -1)]
    found = []
    for features, layer in places:
        vectors = _vectors_of(cfg, encoder, features, layer)
        frames = Held(lambda vectors=vectors: (vectors(inputs).float().cpu() for inputs in passes()))
        found += [_candidate(cfg, features, layer, kind, seeds, vectors, frames) for kind in kinds]
    return found


@torch.no_grad()
def _candidate(cfg, features, layer, kind, seeds, vectors, frames) -> Candidate:
    sizes = dict(num_codebooks=cfg.quantizer.num_codebooks, codebook_size=cfg.quantizer.codebook_size)
    if kind != "kmeans":
        sizes["codebook_dim"] = cfg.quantizer.codebook_dim
    codes = {seed: FittedCodes.of(features, layer=layer, seed=seed, **sizes, **KINDS[kind]) for seed in seeds}
    norm = _settled(codes[seeds[0]], frames)
    dim = next(iter(frames())).shape[1]
    quantizers = {seed: fit(of.settings, dim, lambda: (norm(x) for x in frames())) for seed, of in codes.items()}
    config = " ".join(
        ["birq-labels CHECKPOINT" if features == "layer" else "birq-labels", "MANIFEST OUT", *codes[seeds[0]].options()]
    )
    place = f"layer {layer}" if features == "layer" else features
    return Candidate(kind, place, config, lambda inputs: norm(vectors(inputs)), quantizers)


def _settled(codes: FittedCodes, frames: Held) -> nn.Module:
    """The normalisation of a layer with its statistics; nothing for other features, which normalise by themselves."""
    if codes.features != "layer" or codes.normalisation == "none":
        return nn.Identity()
    first = next(iter(frames()))
    norm = HiddenNormalisation(first.shape[1], codes.normalisation)
    norm.settle(frames())
    return norm


def _vectors_of(cfg, encoder, features: str, layer: int) -> Callable[[TargetInputs], Tensor]:
    if features == "layer":
        return lambda inputs: inputs.gather(inputs.hidden[layer])
    return build_vectors(FittedCodes.of(features), cfg, encoder)
