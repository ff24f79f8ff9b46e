"""What labels a corpus: a target source of a checkpoint, a new quantizer over one of its layers, or fitted codes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, List, Optional, Union

import torch
from torch import Tensor, nn

from fairseq_birq.builders import build_frontend
from fairseq_birq.checkpoint import load, load_checkpoint, load_encoder, speech_encoder_of
from fairseq_birq.config import BirqConfig
from fairseq_birq.data.files import written_whole
from fairseq_birq.errors import UserError
from fairseq_birq.measures.frames import all_frames, noise_free_codes
from fairseq_birq.model import BirqModel
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.targets.base import TargetSource
from fairseq_birq.targets.frozen_encoder import FrozenEncoder, FrozenEncoderTargets
from fairseq_birq.targets.normalisation import HiddenNormalisation
from fairseq_birq.tools.relabel.fitted import AudioAlone, FittedCodes, FittedTargets, build_vectors


@dataclass(frozen=True)
class LayerCodes:
    """Codes of one layer by a quantizer of its own, over hidden states that are normalised per dimension."""

    layer: int  # counted from 1; 0 = what enters the first
    normalisation: str = "standardize+layer"
    num_codebooks: int = 1
    codebook_size: int = 8192
    codebook_dim: int = 16
    seed: int = 5
    statistics_utterances: int = 500  # at most so many, evenly spread over the manifest, set the statistics


@dataclass(frozen=True)
class SourceCodes:
    """Noise-free codes of a target source that a checkpoint has."""

    name: str


Codes = Union[LayerCodes, SourceCodes, FittedCodes]


@dataclass
class Labeller:
    """A target source and the encoder that it looks at, in eval mode."""

    source: TargetSource
    speech_encoder: nn.Module
    codebook_size: int

    def to(self, device) -> "Labeller":
        """Raises UserError for a device that is not there."""
        try:
            for module in (self.source, self.speech_encoder):
                module.to(device).eval()
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device {device} cannot be used: {error}") from None
        return self

    @torch.no_grad()
    def codes(self, net_input) -> Tensor:
        """(frames, N) int64 of all valid frames of a batch."""
        deepest = max(self.source.hidden_layers, default=0)
        return noise_free_codes(self.source(all_frames(self.speech_encoder, net_input, deepest)))

    def num_columns(self, device) -> int:
        second = torch.zeros(1, self.speech_encoder.frontend.sample_rate, device=device)
        return self.codes({"waveform": second, "padding_mask": second.bool()}).shape[1]

    def fingerprint(self) -> str:
        """SHA-256 of the source's fingerprint and of the statistics of its normalisations."""
        digest = hashlib.sha256(str(self.source.fingerprint()).encode())
        for tensor in (tensor for norm in _normalisations(self.source) for tensor in (norm.mean, norm.second)):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def build_labeller(checkpoint, codes: Codes) -> Labeller:
    """What is fitted or counted is still to come, see `settle_quantizer`.

    checkpoint: None for fitted codes of audio alone; these have the frames of the default frontend then

    Raises:
        UserError: the checkpoint has no such layer or source.
    """
    if isinstance(codes, FittedCodes):
        return _build_fitted(checkpoint, codes)
    return _build_layer(checkpoint, codes) if isinstance(codes, LayerCodes) else _build_source(checkpoint, codes.name)


def _build_source(checkpoint, name) -> Labeller:
    model = BirqModel.from_checkpoint(checkpoint)
    known = [known for known, target in model.targets.items() if not target.needs_label_files]
    if name not in known:
        raise UserError(f"checkpoint {checkpoint} has no target source `{name}` to label with; it has {known}")
    source = model.targets[name]
    if source.stage != 0 and any(norm.mode != "layer" and norm.num_batches == 0 for norm in _normalisations(source)):
        raise UserError(f"`{name}` of checkpoint {checkpoint} has no statistics of hidden states yet; train it on first")
    return Labeller(source, model.speech_encoder, source.codebook_size)


def _build_layer(checkpoint, codes: LayerCodes) -> Labeller:
    speech_encoder = load_encoder(checkpoint)
    num_layers = speech_encoder.encoder.num_layers
    if not 0 <= codes.layer <= num_layers:
        raise UserError(f"--layer must be from 1 to {num_layers}, or 0 for what enters the first, but is {codes.layer}")
    quantizer = RandomProjectionQuantizer(
        speech_encoder.dim, codes.codebook_size, codes.codebook_dim, codes.num_codebooks, seed=[codes.seed, codes.layer]
    )
    speech_encoder.encoder.keep_layers(codes.layer)
    source = FrozenEncoderTargets(
        FrozenEncoder(speech_encoder, shares_features=True),
        layers=[codes.layer],
        normalisations=[HiddenNormalisation(speech_encoder.dim, codes.normalisation)],
        quantizers=[quantizer],
    )
    return Labeller(source, speech_encoder, codes.codebook_size)


def _build_fitted(checkpoint, codes: FittedCodes) -> Labeller:
    if checkpoint is None:
        cfg = BirqConfig()
        speech_encoder = AudioAlone(build_frontend(cfg.frontend, dim=8))
    else:
        cfg, state = load(checkpoint)
        speech_encoder = speech_encoder_of(cfg, state, checkpoint)
    return Labeller(FittedTargets(codes, build_vectors(codes, cfg, speech_encoder)), speech_encoder, codes.codebook_size)


def settle_quantizer(
    labeller: Labeller, of: dict, path: Path, net_inputs: Callable[[], Iterable[dict]], like: Optional[Path] = None
) -> None:
    """Statistics, projections and codebooks from a file, so that all shards have the same; it is made where it is missing.

    Args:
        labeller: of `LayerCodes` or `FittedCodes`.
        of: settings and checkpoint, which the file's must be too.
        net_inputs: begins a pass over the utterances that set statistics and fitted codes.
        like: another such file, to be taken over instead.

    Raises:
        UserError: a file is unreadable or of something else; too few frames for statistics.
    """
    source = labeller.source
    modules = nn.ModuleDict({"normalisation": source.normalisations[0], "quantizer": source.quantizers[0]})
    if not path.is_file():
        if like is not None:
            modules.load_state_dict(load_checkpoint(like)["state"])
        elif isinstance(source, FittedTargets):
            source.settle(lambda: (all_frames(labeller.speech_encoder, x, num_layers=0) for x in net_inputs()))
        elif source.normalisations[0].mode != "layer":
            _take_statistics(source, net_inputs())
        with written_whole(path, keep=True) as file:
            state = {key: value.cpu() for key, value in modules.state_dict().items()}  # read on machines without this device too
            torch.save({"of": of, "state": state}, file)
    stored = load_checkpoint(path)
    different = [key for key in of if stored["of"].get(key) != of[key]]
    if different:
        raise UserError(f"{path}: is of other labels; what differs is {', '.join(different)}. Name another folder")
    modules.load_state_dict(stored["state"])


def _take_statistics(source: FrozenEncoderTargets, net_inputs) -> None:
    """Mean and (co)variance per dimension over all frames, in float64."""
    count = source.normalisations[0].settle(_hidden_states(source, net_input) for net_input in net_inputs)
    if count < 2:
        raise UserError(f"{count} frames are too few for statistics of hidden states; use more utterances")


@torch.no_grad()
def _hidden_states(source: FrozenEncoderTargets, net_input) -> Tensor:
    """(frames, d) of the source's layer."""
    inputs = all_frames(source.encoder, net_input, num_layers=0)
    return source.encoder(inputs)[source.layers[0]][inputs.selected]


def _normalisations(source) -> List[HiddenNormalisation]:
    return [module for module in source.modules() if isinstance(module, HiddenNormalisation)]
