"""What a user could pick instead of this package, at the same size on the same audio: steps of forward and backward.

SpeechBrain's BEST-RQ is its own recipe (recipes/LibriSpeech/self-supervised-learning/BEST-RQ of SpeechBrain 1.1), read from its
`train.py` and `BEST-RQ.yaml`: Fbank, sentence normalisation, quantizer, noise in masked frames, convolutional frontend,
Conformer with relative positions, linear layer over all frames, cross-entropy of the masked ones. Other than there: the sizes,
the share of masked frames (0.6 there; our masks' here), and full attention instead of random chunks (its `streaming: False`).

`make bench` installs it beside the environment (requirements/bench.txt); by hand:

    pip install --no-deps --target build/bench-peers -r requirements/bench.txt
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from torch.nn import functional as F

STACKED = 4  # `pad_to_divisible_by`: frames of 10 ms in an encoder frame
MASK_FRAMES, NOISE_STD = 4, 0.1  # `mask_length`, `noise_std`


def speechbrain_step(
    layers, dim, ffn_dim, heads, codebook_size=8192, masked_share=0.4, device="cpu", autocast=None, sample_rate=16000
):
    """A function of (waveform (B, S) float, relative lengths (B,)) that makes one step, and the number of trained parameters.

    Args:
        masked_share: of the frames.
        autocast: a type for autocast, as SpeechBrain's `precision: bf16`; None: float32.

    Raises:
        ImportError: SpeechBrain is not installed.
    """
    parts = _speechbrain_parts()
    modules = torch.nn.ModuleDict(
        {
            "cnn": parts.ConvolutionFrontEnd(
                input_shape=(8, 10, 80),
                num_blocks=2,
                num_layers_per_block=1,
                out_channels=(128, 32),
                kernel_sizes=(3, 3),
                strides=(2, 2),
                residuals=(False, False),
            ),
            "encoder": parts.EncoderWrapper(
                parts.TransformerASR(
                    input_size=640,
                    tgt_vocab=2048,
                    d_model=dim,
                    nhead=heads,
                    num_encoder_layers=layers,
                    num_decoder_layers=0,
                    d_ffn=ffn_dim,
                    dropout=0.1,
                    activation=torch.nn.GELU,
                    conformer_activation=torch.nn.GELU,
                    encoder_module="conformer",
                    attention_type="RelPosMHAXL",
                    normalize_before=True,
                    causal=False,
                    layerdrop_prob=0.0,
                )
            ),
            "linear": parts.Linear(input_size=dim, n_neurons=codebook_size),
        }
    ).to(device)
    quantizer = parts.RandomProjectionQuantizer(input_dim=80 * STACKED, cb_dim=16, cb_vocab=codebook_size).to(device)
    fbank = parts.Fbank(sample_rate=sample_rate, n_fft=400, n_mels=80).to(device)
    normalize = parts.InputNormalization(norm_type="sentence").to(device)
    modules.train()

    def step(waveform, lengths):
        with torch.autocast(torch.device(device).type, dtype=autocast) if autocast else nullcontext():
            features = normalize(fbank(waveform), lengths, epoch=1)
            features = F.pad(features, (0, 0, 0, -features.shape[1] % STACKED))
            frames = (lengths * waveform.shape[1]).long() // (sample_rate // 100) + 1
            share = masked_share / MASK_FRAMES  # the probability that a frame starts a mask
            mask = parts.compute_mask(features.shape, frames.tolist(), share, MASK_FRAMES).to(device)
            index, stacked = mask[::STACKED] // STACKED, features.view(len(features), features.shape[1] // STACKED, -1)
            targets = quantizer(stacked[:, index, :])
            noise = torch.normal(mean=0, std=NOISE_STD, size=(len(features), len(mask), features.shape[2]), device=device)
            features[:, mask, :] = noise.to(features.dtype)
            logits = modules["linear"](modules["encoder"](modules["cnn"](features), lengths))[:, index, :]
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        return float(loss.detach())

    return step, sum(parameter.numel() for parameter in modules.parameters())


def _speechbrain_parts() -> SimpleNamespace:
    if importlib.util.find_spec("speechbrain") is None:
        raise ImportError("speechbrain is not installed")
    if importlib.util.find_spec("torchaudio") is None:
        sys.modules["torchaudio"] = _no_torchaudio()
    names = {
        "lobes.features": "Fbank",
        "lobes.models.BESTRQ": "compute_mask",
        "lobes.models.convolution": "ConvolutionFrontEnd",
        "lobes.models.transformer.TransformerASR": "EncoderWrapper TransformerASR",
        "nnet.linear": "Linear",
        "nnet.quantisers": "RandomProjectionQuantizer",
        "processing.features": "InputNormalization",
    }
    modules = {part: importlib.import_module(f"speechbrain.{part}") for part in names}
    return SimpleNamespace(**{name: getattr(modules[part], name) for part in names for name in names[part].split()})


def _no_torchaudio():
    """SpeechBrain imports it for reading audio; its wheels need CUDA libraries, and nothing here reads audio."""
    module = types.ModuleType("torchaudio")
    module.__spec__, module.__version__, module.__path__ = importlib.machinery.ModuleSpec("torchaudio", None), "2.8.0", []
    module.list_audio_backends = lambda: ["none"]
    return module


def hubert_step(layers, dim, ffn_dim, heads, device="cpu", dtype=torch.float32, sample_rate=16000):
    """The same of fairseq's HuBERT with its default CNN, 500 classes and its default masking, and its parameters."""
    from fairseq.criterions.hubert_criterion import HubertCriterion
    from fairseq.data import Dictionary
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel

    dictionary = Dictionary()
    for label in range(500 - len(dictionary)):
        dictionary.add_symbol(str(label))
    config = HubertConfig(label_rate=50, **_fairseq_sizes(layers, dim, ffn_dim, heads))
    model = HubertModel(config, SimpleNamespace(sample_rate=sample_rate), [dictionary])
    model = model.to(dtype).to(device).train()
    criterion = HubertCriterion(None, pred_masked_weight=1.0, pred_nomask_weight=0.0)

    def step(waveform, lengths):
        padding_mask = torch.arange(waveform.shape[1], device=device) >= (lengths * waveform.shape[1]).round()[:, None]
        labels = torch.randint(4, 500, (len(waveform), 50 * waveform.shape[1] // sample_rate), device=device)
        inputs = {"source": waveform.to(dtype), "padding_mask": padding_mask}
        loss, _, _ = criterion(model, {"id": torch.arange(len(waveform)), "net_input": inputs, "target_list": [labels]})
        loss.backward()
        return float(loss.detach())

    return step, sum(parameter.numel() for parameter in model.parameters())


def fairseq_conformer(layers, dim, ffn_dim, heads, kernel, positions):
    """fairseq's ConformerEncoder at the same size. positions: "rel_pos" or "rope"."""
    from fairseq.models.wav2vec.wav2vec2 import ConformerEncoder, Wav2Vec2Config

    class Encoder(ConformerEncoder):
        """In fairseq-fixed 0.12.3.1 the base class passes `layer_idx`, and `forward` a `corpus_key`: both fail."""

        def build_encoder_layer(self, args, **_):
            return super().build_encoder_layer(args)

    kind = dict(layer_type="conformer", attn_type="espnet", pos_enc_type=positions, depthwise_conv_kernel_size=kernel)
    return Encoder(Wav2Vec2Config(**kind, **_fairseq_sizes(layers, dim, ffn_dim, heads))).train()


def _fairseq_sizes(layers, dim, ffn_dim, heads) -> dict:
    return dict(encoder_layers=layers, encoder_embed_dim=dim, encoder_ffn_embed_dim=ffn_dim, encoder_attention_heads=heads)
