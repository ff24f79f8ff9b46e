"""One training step's time and memory: 8 x 10 s of audio, 4 layers x 256, feed-forward 1024, V = 8192.

    python benchmarks/step.py             about two minutes; fairseq's HuBERT needs 11 GB and 20 s a step
    python benchmarks/step.py --no-hubert

Forward and backward of whole steps, then of the parts of ours, each in a process of its own. Ours and HuBERT have the
same fairseq Transformer; HuBERT has its default CNN, 500 classes and its default masking.
"""

import argparse
import json
from types import SimpleNamespace

import torch
from measure import measure, measure_alone, print_table, print_target

BATCH, SECONDS, SAMPLE_RATE = 8, 10, 16000
LAYERS, DIM, FFN_DIM, HEADS, KERNEL = 4, 256, 1024, 4, 31
TRANSFORMER = dict(
    encoder_layers=LAYERS, encoder_embed_dim=DIM, encoder_ffn_embed_dim=FFN_DIM, encoder_attention_heads=HEADS
)


def waveform(seconds=SECONDS):
    """(B, S) float in [-1, 1] and its padding mask (none)."""
    wave = 0.1 * torch.randn(BATCH, int(seconds * SAMPLE_RATE))
    return wave, torch.zeros(wave.shape, dtype=torch.bool)


def birq_model(encoder):
    from omegaconf import OmegaConf

    from fairseq_birq.config import BirqConfig
    from fairseq_birq.model import BirqModel

    sizes = dict(name=encoder, num_layers=LAYERS, dim=DIM, ffn_dim=FFN_DIM, num_heads=HEADS, conv_kernel=KERNEL)
    config = OmegaConf.merge(OmegaConf.structured(BirqConfig), {"encoder": sizes, "mask": {"start_prob": 0.013}})
    return BirqModel.build_model(config).train()


def birq_step(encoder):
    model = birq_model(encoder)

    def step(seconds=SECONDS):
        wave, padding_mask = waveform(seconds)
        output = model(wave, padding_mask, torch.arange(BATCH))
        output.loss.backward()

    return step


def hubert_step():
    from fairseq.criterions.hubert_criterion import HubertCriterion
    from fairseq.data import Dictionary
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel

    dictionary = Dictionary()
    for label in range(500 - len(dictionary)):
        dictionary.add_symbol(str(label))
    task_config = SimpleNamespace(sample_rate=SAMPLE_RATE)
    model = HubertModel(HubertConfig(label_rate=50, **TRANSFORMER), task_config, [dictionary]).train()
    criterion = HubertCriterion(None, pred_masked_weight=1.0, pred_nomask_weight=0.0)

    def step(seconds=SECONDS):
        wave, padding_mask = waveform(seconds)
        labels = torch.randint(4, 500, (BATCH, int(50 * seconds)))
        inputs = {"source": wave, "padding_mask": padding_mask}
        loss, _, _ = criterion(model, {"id": torch.arange(BATCH), "net_input": inputs, "target_list": [labels]})
        loss.backward()

    return step


def hidden_states(seconds):
    return torch.randn(BATCH, int(25 * seconds), DIM, requires_grad=True)


def our_encoder(name):
    encoder = birq_model(name).speech_encoder.encoder

    def step(seconds=SECONDS):
        x = hidden_states(seconds)
        encoder(x, torch.zeros(x.shape[:2], dtype=torch.bool)).last.sum().backward()

    return step


def fairseq_conformer(positions):
    """fairseq's ConformerEncoder at the same size. positions: "rel_pos" or "rope"."""
    from fairseq.models.wav2vec.wav2vec2 import ConformerEncoder, Wav2Vec2Config

    class Encoder(ConformerEncoder):
        """In fairseq-fixed 0.12.3.1 the base class passes `layer_idx`, and `forward` a `corpus_key`: both fail."""

        def build_encoder_layer(self, args, **_):
            return super().build_encoder_layer(args)

    config = Wav2Vec2Config(
        layer_type="conformer",
        attn_type="espnet",
        pos_enc_type=positions,
        depthwise_conv_kernel_size=KERNEL,
        **TRANSFORMER,
    )
    encoder = Encoder(config).train()

    def step(seconds=SECONDS):
        encoder.extract_features(hidden_states(seconds), padding_mask=None)[0].sum().backward()

    return step


def frontend_part():
    """Log-Mel, normalisation, mask and subsampling, with the gradient of the subsampling."""
    from fairseq_birq.masking import utterance_keys
    from fairseq_birq.structs import Features

    model = birq_model("transformer")
    frontend = model.speech_encoder.frontend

    def step(seconds=SECONDS):
        wave, padding_mask = waveform(seconds)
        keys = utterance_keys(1, 0, torch.arange(BATCH))
        features = frontend.features(wave, padding_mask)
        steps = torch.zeros(BATCH, features.x.shape[1] // frontend.frames_per_step, dtype=torch.bool)
        masked = Features(model.masker.fill(features.x, model.masker.sample(steps, keys), keys), features.padding_mask)
        frontend.subsample(masked)[0].sum().backward()

    return step


def targets_part():
    """Codes of the masked frames from features that the frontend has made already."""
    from fairseq_birq.masking import utterance_keys
    from fairseq_birq.targets.base import TargetInputs

    model = birq_model("transformer")
    inputs = {}

    def step(seconds=SECONDS):
        if seconds not in inputs:
            wave, padding_mask = waveform(seconds)
            features = model.speech_encoder.frontend.features(wave, padding_mask)
            steps = torch.zeros(BATCH, features.x.shape[1] // 4, dtype=torch.bool)
            mask = model.masker.sample(steps, utterance_keys(1, 0, torch.arange(BATCH)))
            inputs[seconds] = TargetInputs(wave, padding_mask, features, steps, mask)
        model.targets["raw_input"](inputs[seconds])

    return step, 10


def heads_part():
    """Heads and loss at 30 % of the frames."""
    from fairseq_birq.losses import masked_code_loss

    model = birq_model("transformer")
    head = model.heads["raw_input"]

    def step(seconds=SECONDS):
        num_masked = int(0.3 * BATCH * 25 * seconds)
        hidden = torch.randn(num_masked, DIM, requires_grad=True)
        codes = torch.randint(head.weight.shape[1], (num_masked, 1))
        masked_code_loss(hidden, head.weight, head.bias, {"raw_input": codes}, {}, model.block_bytes)[0].backward()

    return step


PARTS = {
    "HuBERT step (fairseq)": hubert_step,
    "ours: step, Transformer": lambda: birq_step("transformer"),
    "ours: step, Conformer": lambda: birq_step("conformer"),
    "part: frontend": frontend_part,
    "part: targets": targets_part,
    "part: encoder, Transformer": lambda: our_encoder("transformer"),
    "part: encoder, Conformer": lambda: our_encoder("conformer"),
    "part: heads and loss": heads_part,
    "fairseq's Conformer, rel_pos": lambda: fairseq_conformer("rel_pos"),
    "fairseq's Conformer, rope": lambda: fairseq_conformer("rope"),
}


def work(name):
    """Measure one part in this process, after a short step that loads every library, and print JSON."""
    torch.manual_seed(0)
    made = PARTS[name]()
    step, warm_up_seconds = made if isinstance(made, tuple) else (made, 1)
    step(warm_up_seconds)
    min_calls = 2 if name.startswith("HuBERT") else 5
    print(json.dumps(measure(step, min_calls=min_calls)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-hubert", action="store_true", help="leave out fairseq's HuBERT")
    parser.add_argument("--worker", nargs=1, metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.worker[0])
    names = [name for name in PARTS if not (arguments.no_hubert and name.startswith("HuBERT"))]
    report({name: measure_alone(__file__, name) for name in names})


def report(rows):
    ours, conformer = rows["ours: step, Transformer"], rows["part: encoder, Conformer"]
    title = f"training step, {BATCH} x {SECONDS} s, {LAYERS} x {DIM}, {torch.get_num_threads()} threads"
    print_table(title + " (ratios to our step with the Transformer)", rows, "ours: step, Transformer")
    if "HuBERT step (fairseq)" in rows:
        hubert = rows["HuBERT step (fairseq)"]
        print_target("time <= 0.03 of HuBERT's", ours, hubert, "seconds", 0.03)
        print_target("memory <= 0.06 of HuBERT's", ours, hubert, "extra_bytes", 0.06)
    for positions in ("rel_pos", "rope"):
        rival = rows[f"fairseq's Conformer, {positions}"]
        print_target(f"Conformer <= 0.85 of fairseq's ({positions})", conformer, rival, "seconds", 0.85)
    print_target("targets <= 0.02 of the step", rows["part: targets"], ours, "seconds", 0.02)


if __name__ == "__main__":
    main()
