"""The pre-training model: one encoder on masked input, any mix of target sources on the unmasked input."""

from dataclasses import replace
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from fairseq_birq.builders import build_chunk_sampler, build_masker, build_speech_encoder, compile_encoders
from fairseq_birq.checkpoint import load, load_speech_encoder_state, start_from
from fairseq_birq.config import BirqConfig
from fairseq_birq.devices import block_bytes, to_device
from fairseq_birq.disturbance import build_disturber
from fairseq_birq.disturbance.base import Batch
from fairseq_birq.errors import UserError
from fairseq_birq.objective.heads import CodebookHeads
from fairseq_birq.objective.losses import pretraining_loss
from fairseq_birq.objective.masking import utterance_keys
from fairseq_birq.settings import from_dict
from fairseq_birq.structs import Chunks, Features, PretrainingOutput, TargetInputs
from fairseq_birq.targets import TARGETS, build_targets
from fairseq_birq.targets.base import TargetSource


class BirqModel(nn.Module):
    """Pre-training model. `speech_encoder` is what remains of it for fine-tuning.

    Args:
        masker: a `SpanMasker`.
        targets: the target sources by name.
        heads: prediction heads (`CodebookHeads`) by name.
        head_names: which head predicts the codes of each source.
        seed: of masks and filler noise, with the update and the utterance's id.
        masked_views: differently masked copies of a batch.
        chunk_sampler: draws chunks of the masked input in training, see `ChunkSampler`; targets see whole utterances. Or None.
        disturber: disturbs what the encoder hears in training, once for all views, and not what targets are made of; or None.
        block_mb: most MiB of logits that are alive at once; 0: what suits the device.
    """

    def __init__(
        self,
        speech_encoder,
        masker,
        targets,
        heads,
        head_names,
        seed=1,
        masked_views=1,
        block_mb=0.0,
        disturber=None,
        chunk_sampler=None,
    ):
        super().__init__()
        self.speech_encoder = speech_encoder
        self.masker = masker
        self.targets = targets
        self.heads = heads
        self.head_names = head_names
        self.seed = seed
        self.masked_views = masked_views
        self.block_mb = block_mb
        self.disturber = disturber
        self.chunk_sampler = chunk_sampler
        self.num_updates = 0

    @classmethod
    def build_model(cls, cfg) -> "BirqModel":
        """cfg: a `BirqConfig`, or any mapping with its keys. Raises UserError for settings that cannot be."""
        cfg = from_dict(BirqConfig, cfg)
        return cls._assemble(cfg, _target_encoder(cfg.target_encoder_path))

    @classmethod
    def _assemble(cls, cfg: BirqConfig, target_encoder) -> "BirqModel":
        """target_encoder: settings and weights of the snapshot in stage 1, or None; without weights they are to come."""
        if cfg.masked_views < 1:
            raise UserError(f"`model.masked_views` must be at least 1, but is {cfg.masked_views}")
        speech_encoder = build_speech_encoder(cfg.frontend, cfg.encoder)
        targets = build_targets(cfg, speech_encoder.frontend, target_encoder)
        head_names = {name: source.shares_head_with or name for name, source in targets.items()}
        heads = {
            name: CodebookHeads(speech_encoder.dim, cfg.quantizer.codebook_size, cfg.quantizer.num_codebooks)
            for name in dict.fromkeys(head_names.values())
        }
        model = cls(
            speech_encoder=speech_encoder,
            masker=build_masker(cfg.mask, speech_encoder.frontend),
            targets=targets,
            heads=nn.ModuleDict(heads),
            head_names=head_names,
            seed=cfg.seed,
            masked_views=cfg.masked_views,
            block_mb=cfg.block_mb,
            disturber=build_disturber(cfg.disturbance, speech_encoder.frontend),
            chunk_sampler=build_chunk_sampler(cfg.chunks, speech_encoder),
        )
        if cfg.pretrained_path:
            start_from(model, cfg.pretrained_path)
        if cfg.compile_layers:
            compile_encoders(model)
        return model

    @classmethod
    def from_checkpoint(cls, path) -> "BirqModel":
        """The model of a pre-training checkpoint with all its targets and heads, in eval mode; needs no other file.

        Raises:
            UserError: the checkpoint is unreadable or of another model.
        """
        cfg, state = load(path)
        if not isinstance(cfg, BirqConfig):
            raise UserError(f"checkpoint {path} is of model 'birq_ctc', which has no pre-training targets")
        if not any(name.startswith("heads.") for name in state):
            raise UserError(f"checkpoint {path} is an encoder without its targets, as exports are: name what it was made of")
        cfg.pretrained_path, cfg.compile_layers = None, False
        model = cls._assemble(cfg, _stored_target_encoder(state, path) or _target_encoder(cfg.target_encoder_path))
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"checkpoint {path}: its weights are not those of its `model` settings: {error}") from None
        return model.eval()

    def forward(
        self,
        waveform: Tensor,
        padding_mask: Tensor,
        ids: Tensor,
        weights: Optional[Dict[str, float]] = None,
        codes: Optional[Tensor] = None,
        on_host: Optional[Dict[str, List[int]]] = None,
    ) -> PretrainingOutput:
        """Masked prediction of every source's targets.

        An empty batch (B = 0, all its audio was bad) gives zero losses that still hang on the parameters, so that
        data-parallel training goes on.

        Args:
            waveform: (B, S) float in [-1, 1].
            padding_mask: (B, S) bool.
            ids: (B,) int64, the utterances' numbers.
            weights: per source, 1 where it is not named; in training a source of weight 0 is not computed.
            codes: (B, T, N) int64, labels of all encoder frames for `label_file` targets.
            on_host: `ids` and `num_samples` of the utterances as Python numbers; without them the host waits for the device.
        """
        if waveform.shape[0] == 0:
            waveform = waveform.new_zeros(1, self.speech_encoder.frontend.sample_rate)
            padding_mask, ids = torch.ones_like(waveform, dtype=torch.bool), ids.new_zeros(1)
            on_host = {"ids": [0], "num_samples": [0]}
            codes = None if codes is None else codes.new_zeros(1, *codes.shape[1:])
        weights = {name: (weights or {}).get(name, 1.0) for name in self.targets}
        active = {name: source for name, source in self.targets.items() if source.active}
        sources = {name: source for name, source in active.items() if weights[name] != 0 or not self.training}
        views = range(self.masked_views)
        update = self.num_updates if self.training else 0
        ids, num_samples = _on_host(ids, padding_mask, on_host)
        keys = torch.cat([utterance_keys(self.seed, update, ids, view) for view in views])
        features = self.speech_encoder.frontend.features(waveform, padding_mask)
        heard, realised = features, None
        if self.disturber is not None and self.training:
            batch = Batch(waveform, padding_mask, ids, keys[: len(ids)], num_samples)
            heard, realised = self.disturber.features(self.speech_encoder.frontend, features, batch)
        num_frames = [int(self.speech_encoder.output_length(samples)) for samples in num_samples]
        padded = torch.arange(int(self.speech_encoder.output_length(waveform.shape[1]))) >= torch.tensor(num_frames)[:, None]
        mask = self.masker.sample(padded.repeat(self.masked_views, 1), keys)
        frame_padding_mask = to_device(padded, waveform.device)
        inputs = TargetInputs(waveform, padding_mask, features, frame_padding_mask, mask, keys, {}, codes, num_frames)
        chunks = self.chunk_sampler.sample(self.seed, update) if self.chunk_sampler is not None and self.training else None
        predicted, inputs.hidden = self.encode(features, inputs.padding_or_none, mask, keys, sources, heard, chunks)
        targets = {name: source(inputs) for name, source in sources.items()}
        rows, columns = inputs.frames()
        index = to_device(rows * mask.shape[1] + columns, waveform.device)
        loss, terms = self._losses(predicted.flatten(0, 1).index_select(0, index), targets, weights)
        return PretrainingOutput(
            loss,
            terms,
            num_masked=len(rows),
            num_frames=sum(num_frames) * self.masked_views,
            num_padded=mask.numel() - sum(num_frames) * self.masked_views,
            audio_seconds=sum(num_samples) / self.speech_encoder.frontend.sample_rate,
            columns={name: source.columns for name, source in sources.items()},
            stage=None if self.staged is None else self.staged.stage,
            realised=realised,
        )

    def encode(
        self,
        features: Features,
        frame_padding_mask: Optional[Tensor],
        mask: Tensor,
        keys: Tensor,
        sources,
        heard: Optional[Features] = None,
        chunks: Optional[Chunks] = None,
    ):
        """The last layer on masked features, and on unmasked ones the layers that sources ask for.

        Both go through the layers up to the deepest of those in one joined batch, the masked views first and the clean
        utterances last; the clean rows have no dropout unless a source wants it. Without a gradient
        into the labels, the clean rows run by themselves and keep no activations.

        Args:
            features: the clean ones.
            heard: disturbed ones, which are masked; None: the clean ones are.
            chunks: of the masked views; clean utterances are always seen whole.

        Returns:
            (views * B, T, d), and {layer: (B, T, d)}.
        """
        views, batch = mask.shape[0] // features.x.shape[0], features.x.shape[0]
        masked = self.masker.fill((heard or features).x.repeat(views, 1, 1), mask, keys)
        masked = Features(masked, features.padding_mask.repeat(views, 1))
        masked_padding = None if frame_padding_mask is None else frame_padding_mask.repeat(views, 1)
        wanted = sorted({layer for source in sources.values() for layer in source.hidden_layers})
        needs_gradient = any(source.needs_gradient for source in sources.values()) and torch.is_grad_enabled()
        if not wanted:
            return self._run(masked, masked_padding, chunks=chunks)[-1], {}
        clean_rows = 0 if any(source.target_dropout for source in sources.values()) else batch
        if not needs_gradient:
            with torch.no_grad():
                layers = self._run(features, frame_padding_mask, wanted[-1], clean_rows)
            return self._run(masked, masked_padding, chunks=chunks)[-1], {layer: layers[layer - 1] for layer in wanted}
        joined = Features(torch.cat([masked.x, features.x]), torch.cat([masked.padding_mask, features.padding_mask]))
        padding = None if masked_padding is None else torch.cat([masked_padding, frame_padding_mask])
        joined_chunks = None if chunks is None else replace(chunks, full_rows=batch)
        layers = self._run(joined, padding, wanted[-1], clean_rows, joined_chunks)
        rest = self.speech_encoder.encoder.run_layers(layers[-1][:-batch], masked_padding, start=wanted[-1], chunks=chunks)
        return (rest or [layers[-1][:-batch]])[-1], {layer: layers[layer - 1][-batch:] for layer in wanted}

    def _run(self, features, frame_padding_mask, num_layers=None, clean_rows=0, chunks=None):
        hidden, _ = self.speech_encoder.frontend.subsample(features, clean_rows)
        run_layers = self.speech_encoder.encoder.run_layers
        return run_layers(hidden, frame_padding_mask, stop=num_layers, clean_rows=clean_rows, chunks=chunks)

    def _losses(self, predicted: Tensor, targets, weights):
        rewards = {name: self.targets[name].diversity_weight for name in targets}
        budget = block_bytes(self.block_mb, predicted.device)
        return pretraining_loss(predicted, self.heads, self.head_names, targets, weights, rewards, budget)

    @property
    def staged(self) -> Optional[TargetSource]:
        """The source whose targets change in stages, if there is one."""
        return next((source for source in self.targets.values() if source.stage is not None), None)

    def set_num_updates(self, num_updates):
        """Called before every forward of training, and by fairseq before a checkpoint's state is loaded.

        Under fairseq a stage has begun by then (`training/stages.py:begin_stages`), and this finds nothing to renew. Without it,
        whoever trains clears the optimizer where a stage begins.
        """
        self.num_updates = num_updates
        for name in self.renew_targets(num_updates):
            self.renew_heads(name)

    def renew_targets(self, num_updates: int) -> List[str]:
        """All sources follow the encoder; the names of those that begin a stage. The same count again changes nothing."""
        return [name for name, source in self.targets.items() if source.update(self.speech_encoder, num_updates)]

    def renew_heads(self, name: str) -> None:
        """New weights for the head of a source whose stage began, if it wants them."""
        source = self.targets[name]
        if source.reset_heads:
            self.heads[self.head_names[name]].redraw(self.seed, source.stage)


def _on_host(ids: Tensor, padding_mask: Tensor, on_host) -> Tuple[Tensor, List[int]]:
    """(B,) int64 ids on the host, and the utterances' samples."""
    if on_host is None:
        return ids.cpu(), (~padding_mask).sum(1).tolist()
    return torch.tensor(on_host["ids"], dtype=torch.int64), on_host["num_samples"]


def _target_encoder(path):
    """Settings and weights of the encoder that makes targets from the beginning, or None."""
    if not path:
        return None
    try:
        return load_speech_encoder_state(path)
    except UserError as error:
        raise UserError(f"`model.target_encoder_path`: {error}") from None


def _stored_target_encoder(state, path):
    """Settings of that encoder out of a model's state, whose weights come with the state; or None."""
    for name, source in TARGETS.items():
        try:
            settings = source.stored_encoder_settings(state.get(f"targets.{name}._extra_state"))
        except UserError as error:
            raise UserError(f"checkpoint {path}: the settings of its {name}'s encoder are damaged: {error}") from None
        if settings is not None:
            return settings, None
    return None
