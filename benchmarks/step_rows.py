"""The rows of benchmarks/step.py: models and their parts, and what makes one step of each."""

from functools import partial

import peers
import torch

BATCH, SECONDS, SAMPLE_RATE = 8, 10.0, 16000
LAYERS, DIM, FFN_DIM, HEADS, KERNEL = 4, 256, 1024, 4, 31
LABEL_LAYER, VIEWS, MASK_START = 3, 4, 0.013
WEIGHTS = {"raw_input": 2.4, "own_layer": 0.1}
DEEP = dict(name="conformer", num_layers=17, dim=128, ffn_dim=512, num_heads=8, conv_kernel=KERNEL, positions="relative")
DEEP_QUANTIZER = dict(codebook_size=1024, codebook_dim=16, num_codebooks=18)
TARGET_LAYERS, DEEP_VIEWS = [6, 7, 8, 9, 10, 11], 2
ENCODERS = ("Transformer", "Conformer")
HUBERT, SPEECHBRAIN = "HuBERT step (fairseq)", "BEST-RQ step (SpeechBrain)"


def waveform(seconds):
    """(B, S) float in [-1, 1] and its padding mask (none)."""
    wave = 0.1 * torch.randn(BATCH, int(seconds * SAMPLE_RATE))
    return wave, torch.zeros(wave.shape, dtype=torch.bool)


def encoder_sizes(name) -> dict:
    return dict(name=name, num_layers=LAYERS, dim=DIM, ffn_dim=FFN_DIM, num_heads=HEADS, conv_kernel=KERNEL)


def best_rq(name, **settings):
    """A model with an encoder of that name, and BEST-RQ's targets, unless `settings` of `model` say otherwise."""
    from omegaconf import OmegaConf

    from fairseq_birq.config import BirqConfig
    from fairseq_birq.model import BirqModel

    settings = {"encoder": encoder_sizes(name.lower()), "mask": {"start_prob": MASK_START}, **settings}
    return BirqModel.build_model(OmegaConf.merge(OmegaConf.structured(BirqConfig), settings)).train()


def recomputed():
    """BEST-RQ with the Conformer and `checkpoint_activations`."""
    return best_rq("Conformer", encoder={**encoder_sizes("conformer"), "checkpoint_activations": True})


def birq(encoder, target_grad_scale=1.0, **settings):
    own_layer = dict(
        layers=[LABEL_LAYER], target_grad_scale=target_grad_scale, shared_head=True, shared_codebook=True, temperature=0.5
    )
    return best_rq(encoder, targets={"use": ["raw_input", "own_layer"], "own_layer": own_layer}, **settings)


def deep_best_rq(**settings):
    return best_rq("Conformer", **{"encoder": DEEP, "quantizer": DEEP_QUANTIZER, "mask": {"start_prob": 0.0127}, **settings})


def latent_rq(**settings):
    """In its first stage after a target update."""
    snapshot = dict(layers=TARGET_LAYERS, target_updates=[1])
    model = deep_best_rq(targets={"use": ["snapshot"], "snapshot": snapshot}, **settings)
    model.set_num_updates(1)
    return model


def our_step(build, *encoder, **settings):
    model = build(*encoder, **settings)

    def step(seconds):
        wave, padding_mask = waveform(seconds)
        model(wave, padding_mask, torch.arange(BATCH), WEIGHTS).loss.backward()

    return step


def peer_step(make, **settings):
    """Of another package, see benchmarks/peers.py."""
    step, _ = make(LAYERS, DIM, FFN_DIM, HEADS, **settings)
    return lambda seconds: step(waveform(seconds)[0], torch.ones(BATCH))


def masked_share() -> float:
    """Of the frames, by the masks of `best_rq`."""
    return 1 - (1 - MASK_START) ** 40  # spans of 400 ms


def hidden_states(seconds):
    return torch.randn(BATCH, int(25 * seconds), DIM, requires_grad=True)


def our_encoder(name):
    encoder = best_rq(name).speech_encoder.encoder

    def step(seconds):
        x = hidden_states(seconds)
        encoder(x, torch.zeros(x.shape[:2], dtype=torch.bool)).last.sum().backward()

    return step


def fairseq_conformer(positions):
    encoder = peers.fairseq_conformer(LAYERS, DIM, FFN_DIM, HEADS, KERNEL, positions)

    def step(seconds):
        encoder.extract_features(hidden_states(seconds), padding_mask=None)[0].sum().backward()

    return step


def frontend_part():
    """Log-Mel, normalisation, mask and subsampling, with the gradient of the subsampling."""
    from fairseq_birq.objective.masking import utterance_keys
    from fairseq_birq.structs import Features

    model = best_rq("Transformer")
    frontend = model.speech_encoder.frontend

    def step(seconds):
        wave, padding_mask = waveform(seconds)
        keys = utterance_keys(1, 0, torch.arange(BATCH))
        features = frontend.features(wave, padding_mask)
        steps = torch.zeros(BATCH, features.x.shape[1] // frontend.frames_per_step, dtype=torch.bool)
        masked = Features(model.masker.fill(features.x, model.masker.sample(steps, keys), keys), features.padding_mask)
        frontend.subsample(masked)[0].sum().backward()

    return step


def targets_part(model, source):
    """Codes of the masked frames from features that the frontend has made already."""
    from fairseq_birq.objective.masking import utterance_keys
    from fairseq_birq.targets.base import TargetInputs

    inputs = {}

    def step(seconds):
        if seconds not in inputs:
            wave, padding_mask = waveform(seconds)
            features = model.speech_encoder.frontend.features(wave, padding_mask)
            steps = torch.zeros(BATCH, features.x.shape[1] // 4, dtype=torch.bool)
            mask = model.masker.sample(steps, utterance_keys(1, 0, torch.arange(BATCH)))
            inputs[seconds] = TargetInputs(wave, padding_mask, features, steps, mask)
        model.targets[source](inputs[seconds])

    return step


def heads_part():
    """Heads and loss at 30 % of the frames, hard codes."""
    return loss_part(best_rq("Transformer"), with_soft_codes=False)


def soft_labels_part():
    """The same with BiRQ's soft codes beside them, and the gradient of their unit vectors."""
    return loss_part(birq("Transformer"), with_soft_codes=True)


def loss_part(model, with_soft_codes):
    from fairseq_birq.objective.losses import masked_code_loss

    head = model.heads["raw_input"]

    def step(seconds):
        num_masked = int(0.3 * BATCH * 25 * seconds)
        hidden = torch.randn(num_masked, DIM, requires_grad=True)
        targets = {"raw_input": torch.randint(head.weight.shape[1], (num_masked, 1))}
        if with_soft_codes:
            targets["own_layer"] = random_soft_codes(model.targets["own_layer"], num_masked)
        masked_code_loss(hidden, head.weight, head.bias, targets, WEIGHTS, 16 << 20)[0].backward()

    return step


def random_soft_codes(source, num_frames):
    from fairseq_birq.objective.soft_codes import SoftCodes

    codebook = source.quantizers[0].codebook
    units = torch.nn.functional.normalize(torch.randn(num_frames, 1, codebook.shape[-1]), dim=-1)
    offsets = torch.rand(num_frames, 1, dtype=torch.float64)
    return SoftCodes([units.requires_grad_()], [codebook], offsets, source.score_scale, source.temperature)


def parts():
    """{row: what makes its step}; rows whose times are compared stand together."""
    rows = {HUBERT: partial(peer_step, peers.hubert_step)}
    rows[SPEECHBRAIN] = partial(peer_step, peers.speechbrain_step, masked_share=masked_share())
    for name in ENCODERS:
        rows[f"BEST-RQ, {name}"] = partial(our_step, best_rq, name)
        rows[f"BiRQ, {name}"] = partial(our_step, birq, name)
        rows[f"BiRQ detached, {name}"] = partial(our_step, birq, name, target_grad_scale=0.0)
        rows[f"BiRQ, {VIEWS} views, {name}"] = partial(our_step, birq, name, masked_views=VIEWS)
        rows[f"part: encoder, {name}"] = partial(our_encoder, name)
    rows["BEST-RQ recomputed, Conformer"] = partial(our_step, recomputed)
    rows["17 layers: BEST-RQ"] = partial(our_step, deep_best_rq)
    rows["17 layers: Latent-RQ"] = partial(our_step, latent_rq)
    rows[f"17 layers: Latent-RQ, {DEEP_VIEWS} views"] = partial(our_step, latent_rq, masked_views=DEEP_VIEWS)
    rows["17 layers: part: Latent-RQ's targets"] = lambda: targets_part(latent_rq(), "snapshot")
    for positions in ("rel_pos", "rope"):
        rows[f"fairseq's Conformer, {positions}"] = partial(fairseq_conformer, positions)
    return {
        **rows,
        "part: frontend": frontend_part,
        "part: targets": lambda: targets_part(best_rq("Transformer"), "raw_input"),
        "part: heads and loss": heads_part,
        "part: soft labels and loss": soft_labels_part,
    }


def make(name, seconds):
    """A call of one row's step, after a short one that loads every library."""
    torch.manual_seed(0)
    step = parts()[name]()
    step(seconds if name.endswith("targets") else min(1.0, seconds))
    return lambda: step(seconds)
