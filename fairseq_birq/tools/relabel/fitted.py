"""Labels by codes that are fitted to the corpus: k-means of MFCC or of a layer as HuBERT's, PCA, refined random codes."""

from dataclasses import asdict, dataclass, fields
from typing import Callable, Iterable, List, Optional

import torch
from torch import Tensor, nn

from fairseq_birq.errors import UserError
from fairseq_birq.frontends.logmel import normalise_utterance, stack_frames
from fairseq_birq.frontends.mfcc import Mfcc
from fairseq_birq.objective.fitted_quantizer import FittedQuantizer
from fairseq_birq.objective.fitting import CodebookSettings, fit
from fairseq_birq.structs import TargetInputs
from fairseq_birq.targets.base import TargetContext, TargetSource
from fairseq_birq.targets.frozen_encoder import FrozenEncoder
from fairseq_birq.targets.normalisation import MODES, HiddenNormalisation
from fairseq_birq.targets.raw_input import RawInputConfig, RawInputTargets

NORMALISATIONS = {  # features: the known ones, the default first
    "mfcc": ("utterance", "none"),
    "logmel": ("utterance+frame", "utterance", "frame", "none"),
    "layer": ("none", *MODES),  # before a random projection it is standardize+layer
}
_CLUSTERS = {"mfcc": 100, "logmel": 100, "layer": 500}  # HuBERT's, section IV-B
_HELD_BYTES = 1 << 30  # of frames that stay in memory between passes


@dataclass(frozen=True)
class FittedCodes:
    """What is quantized, and by which fitted codes. `of` fills in what depends on the features."""

    features: str  # mfcc, logmel (BEST-RQ's stacked frames) or layer
    layer: int  # of "layer", counted from 1; 0 = what enters the first; -1 for other features
    normalisation: str
    projection: str
    codebook: str
    num_codebooks: int
    codebook_size: int
    codebook_dim: int  # 0 without a projection
    refine: int
    seed: int
    fit_utterances: int  # at most so many, evenly spread over the manifest and in random order

    @classmethod
    def of(cls, features: str, **given) -> "FittedCodes":
        """Raises UserError for settings that cannot be."""
        if features not in NORMALISATIONS:
            raise UserError(f"features are {features!r}; known are {', '.join(NORMALISATIONS)}")
        kmeans = given.get("codebook", "kmeans") == "kmeans"
        projection = given.get("projection", "none" if kmeans else "random")
        if projection == "none" and given.get("codebook_dim"):
            raise UserError("`codebook_dim` is that of a projection: choose projection random, pca or whitened_pca too")
        normalisation = "standardize+layer" if (features, projection) == ("layer", "random") else NORMALISATIONS[features][0]
        defaults = dict(layer=-1, normalisation=normalisation, projection=projection, codebook="kmeans", refine=0)
        defaults.update(num_codebooks=1, codebook_size=_CLUSTERS[features] if kmeans else 8192, seed=5, fit_utterances=10000)
        defaults.update(codebook_dim=0 if projection == "none" else 16)
        codes = cls(features, **{**defaults, **given})
        codes.check()
        return codes

    def check(self) -> None:
        """Raises UserError for settings that cannot be."""
        known = NORMALISATIONS.get(self.features, ())
        if self.normalisation not in known:
            raise UserError(f"normalisation of {self.features} is {self.normalisation!r}; known are {', '.join(known)}")
        if self.fit_utterances < 1:
            raise UserError(f"`fit_utterances` must be > 0, but is {self.fit_utterances}")
        assert self.settings.num_codebooks  # which are checked as they are made

    @property
    def settings(self) -> CodebookSettings:
        ours = {field.name: getattr(self, field.name) for field in fields(CodebookSettings)}
        return CodebookSettings(**{**ours, "codebook_dim": self.codebook_dim or 1})

    def options(self) -> List[str]:
        """Of `birq-labels`, that make these codes."""
        plain = asdict(self)
        features, layer = plain.pop("features"), plain.pop("layer")
        if self.projection == "none":
            del plain["codebook_dim"]
        what = ["--layer", layer] if features == "layer" else ["--features", features]
        return [str(part) for part in (*what, *(p for k, v in plain.items() for p in (f"--{k.replace('_', '-')}", v)))]


class AudioAlone(nn.Module):
    """Stands where a speech encoder is wanted of which nothing but the frontend is used."""

    def __init__(self, frontend: nn.Module):
        super().__init__()
        self.frontend = frontend
        self.requires_grad_(False)


class MfccVectors(nn.Module):
    """The mean of an encoder frame's MFCC; the last is repeated where there are too few."""

    def __init__(self, frontend_cfg, frontend: nn.Module, normalisation: str):
        super().__init__()
        self.mfcc = Mfcc(frontend_cfg.sample_rate, frontend_cfg.window_ms, frontend_cfg.hop_ms)
        self.dim, self.normalisation = self.mfcc.dim, normalisation
        self.per_frame = round(frontend.step_samples / self.mfcc.log_mel.hop_samples)

    def forward(self, inputs: TargetInputs) -> Tensor:
        """(M, 39) of the selected frames."""
        features = self.mfcc(inputs.waveform, inputs.padding_mask)
        if self.normalisation == "utterance":
            features = normalise_utterance(features)
        counts, width = (~inputs.frame_padding_mask).sum(1), inputs.frame_padding_mask.shape[1]
        stacked = inputs.gather(stack_frames(features, self.per_frame, counts, width).x)
        return stacked.view(len(stacked), self.per_frame, self.dim).mean(1)


class LogMelVectors(nn.Module):
    """What BEST-RQ quantizes: stacked log-Mel frames."""

    def __init__(self, cfg, frontend: nn.Module, normalisation: str):
        super().__init__()
        self.source = RawInputTargets.build(RawInputConfig(normalisation), TargetContext(cfg, frontend, {}))
        self.dim = self.source.quantizer.projection.shape[1]

    def forward(self, inputs: TargetInputs) -> Tensor:
        """(M, D) of the selected frames."""
        return self.source.vectors(inputs)


class LayerVectors(nn.Module):
    """Hidden states of one layer.

    Raises:
        UserError: there is no such layer.
    """

    def __init__(self, speech_encoder, layer: int):
        super().__init__()
        last = speech_encoder.encoder.num_layers
        if not 0 <= layer <= last:
            raise UserError(f"--layer must be from 1 to {last}, or 0 for what enters the first, but is {layer}")
        speech_encoder.encoder.keep_layers(layer)
        self.encoder = FrozenEncoder(speech_encoder, shares_features=True)
        self.layer, self.dim = layer, speech_encoder.dim

    def forward(self, inputs: TargetInputs) -> Tensor:
        """(M, d) of the selected frames."""
        return inputs.gather(self.encoder(inputs)[self.layer])


class FittedTargets(TargetSource):
    """Hard codes of a `FittedQuantizer`; `settle` fits it.

    Args:
        codes: how.
        vectors: what is quantized: a module from `TargetInputs` to (M, D), with its `dim`.
    """

    name = "fitted"
    is_fixed = True

    def __init__(self, codes: FittedCodes, vectors: nn.Module):
        super().__init__()
        self.codes, self.vectors, self.codebook_size = codes, vectors, codes.codebook_size
        mode = codes.normalisation if codes.features == "layer" and codes.normalisation != "none" else None
        self.normalisations = nn.ModuleList([nn.Identity() if mode is None else HiddenNormalisation(vectors.dim, mode)])
        self.quantizers = nn.ModuleList([_empty(codes, vectors.dim)])

    @torch.no_grad()
    def forward(self, inputs: TargetInputs) -> Tensor:
        return self.quantizers[0].nearest(self.normalisations[0](self.vectors(inputs)))

    def settle(self, passes: Callable[[], Iterable[TargetInputs]]) -> None:
        """Fit statistics, projection and codes; audio is read again in every pass unless its frames fit into memory.

        Raises:
            UserError: see `fit`.
        """
        norm = self.normalisations[0]
        frames = Held(lambda: (self.vectors(inputs).float().cpu() for inputs in passes()))
        if isinstance(norm, HiddenNormalisation) and norm.mode != "layer":
            count = norm.settle(frames())
            if count < 2:
                raise UserError(f"{count} frames are too few for statistics of hidden states; use more utterances")
        norm.cpu()
        found = fit(self.codes.settings, self.vectors.dim, lambda: (norm(x) for x in frames()))
        self.quantizers[0].load_state_dict(found.state_dict())

    def fingerprint(self) -> str:
        codes = self.codes
        return self.quantizers[0].fingerprint(f"{codes.features} {codes.layer} {codes.normalisation}")


class Held:
    """Passes over frames that stay in memory where they fit, and are made anew where they do not.

    make: begins a pass: (M, D) each
    """

    def __init__(self, make: Callable[[], Iterable[Tensor]], most_bytes: int = _HELD_BYTES):
        self.make, self.most_bytes = make, most_bytes
        self.kept: Optional[List[Tensor]] = None

    def __call__(self) -> Iterable[Tensor]:
        if self.kept is not None:
            yield from self.kept
            return
        kept: Optional[List[Tensor]] = []
        size = 0
        for x in self.make():
            size += x.numel() * x.element_size()
            if kept is not None and size <= self.most_bytes:
                kept.append(x)
            else:
                kept = None
            yield x
        self.kept = kept


def _empty(codes: FittedCodes, dim: int) -> FittedQuantizer:
    """Of the right shapes; `settle` or a file fills it."""
    size = dim if codes.projection == "none" else codes.codebook_dim
    projections = codes.num_codebooks if codes.projection == "random" else 1
    codebook = torch.zeros(codes.num_codebooks, codes.codebook_size, size)
    return FittedQuantizer(torch.zeros(dim), torch.zeros(projections, dim, size), codebook, codes.settings.unit)


def build_vectors(codes: FittedCodes, cfg, speech_encoder) -> nn.Module:
    """What `codes` quantizes.

    cfg: a `BirqConfig`, or anything with its `frontend`
    speech_encoder: a `SpeechEncoder`, whose later layers are taken off, or an `AudioAlone`

    Raises:
        UserError: there is no such layer.
    """
    if codes.features == "layer":
        return LayerVectors(speech_encoder, codes.layer)
    make = MfccVectors if codes.features == "mfcc" else LogMelVectors
    return make(cfg.frontend if codes.features == "mfcc" else cfg, speech_encoder.frontend, codes.normalisation)
