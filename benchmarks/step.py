"""One training step's time and memory: 8 x 10 s of audio, 4 layers x 256, feed-forward 1024, V = 8192.

    python benchmarks/step.py                     fairseq's HuBERT needs 11 GB and 20 s a step
    python benchmarks/step.py --no-hubert
    python benchmarks/step.py --only Conformer    some rows; three minutes

Forward and backward of whole steps and of their parts; times in turns, memory in a process each. Ours and HuBERT have
the same fairseq Transformer; HuBERT has its default CNN, 500 classes and its default masking.

Latent-RQ's rows, with BEST-RQ beside them, have the 17 layers of examples/latent_rq/librispeech_base.yaml, their 6 target
layers of the first 11, and N = 18; d, feed-forward, V and the width of heads are a quarter, so that heads and encoder keep
their proportion. Their target for memory adds weights and gradients to the extra peak. `--only "17 layers"` does these alone,
in three minutes.

BiRQ has the paper's settings and takes its labels from layer 3 of 4: the same encoder as BEST-RQ's, at k/K = 0.75 where
the paper has 0.7; its bounds are made with 0.75.
"""

import argparse
from collections import defaultdict
from functools import partial
from types import SimpleNamespace

import torch
from measure import NOT_MEASURED, measure_rows, print_table, print_target, work

BATCH, SECONDS, SAMPLE_RATE = 8, 10.0, 16000
LAYERS, DIM, FFN_DIM, HEADS, KERNEL = 4, 256, 1024, 4, 31
LABEL_LAYER, VIEWS = 3, 4
WEIGHTS = {"raw_input": 2.4, "own_layer": 0.1}
DEEP = dict(name="conformer", num_layers=17, dim=128, ffn_dim=512, num_heads=8, conv_kernel=KERNEL, positions="relative")
DEEP_QUANTIZER = dict(codebook_size=1024, codebook_dim=16, num_codebooks=18)
TARGET_LAYERS, DEEP_VIEWS = [6, 7, 8, 9, 10, 11], 2
TURNS = dict(rounds=7, slow_rounds=2, slow_seconds=14.0)  # slow: HuBERT alone
ENCODERS = ("Transformer", "Conformer")
HUBERT = "HuBERT step (fairseq)"
TRANSFORMER = dict(encoder_layers=LAYERS, encoder_embed_dim=DIM, encoder_ffn_embed_dim=FFN_DIM, encoder_attention_heads=HEADS)


def waveform(seconds):
    """(B, S) float in [-1, 1] and its padding mask (none)."""
    wave = 0.1 * torch.randn(BATCH, int(seconds * SAMPLE_RATE))
    return wave, torch.zeros(wave.shape, dtype=torch.bool)


def best_rq(name, **settings):
    """A model with an encoder of that name, and BEST-RQ's targets, unless `settings` of `model` say otherwise."""
    from omegaconf import OmegaConf

    from fairseq_birq.config import BirqConfig
    from fairseq_birq.model import BirqModel

    sizes = dict(name=name.lower(), num_layers=LAYERS, dim=DIM, ffn_dim=FFN_DIM, num_heads=HEADS, conv_kernel=KERNEL)
    settings = {"encoder": sizes, "mask": {"start_prob": 0.013}, **settings}
    return BirqModel.build_model(OmegaConf.merge(OmegaConf.structured(BirqConfig), settings)).train()


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

    def step(seconds):
        wave, padding_mask = waveform(seconds)
        labels = torch.randint(4, 500, (BATCH, int(50 * seconds)))
        inputs = {"source": wave, "padding_mask": padding_mask}
        loss, _, _ = criterion(model, {"id": torch.arange(BATCH), "net_input": inputs, "target_list": [labels]})
        loss.backward()

    return step


def hidden_states(seconds):
    return torch.randn(BATCH, int(25 * seconds), DIM, requires_grad=True)


def our_encoder(name):
    encoder = best_rq(name).speech_encoder.encoder

    def step(seconds):
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
    rows = {HUBERT: hubert_step}
    for name in ENCODERS:
        rows[f"BEST-RQ, {name}"] = partial(our_step, best_rq, name)
        rows[f"BiRQ, {name}"] = partial(our_step, birq, name)
        rows[f"BiRQ detached, {name}"] = partial(our_step, birq, name, target_grad_scale=0.0)
        rows[f"BiRQ, {VIEWS} views, {name}"] = partial(our_step, birq, name, masked_views=VIEWS)
        rows[f"part: encoder, {name}"] = partial(our_encoder, name)
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-hubert", action="store_true", help="leave out fairseq's HuBERT")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose names contain this")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of audio per utterance (default: 10)")
    parser.add_argument("--worker", nargs="+", metavar=("KIND", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, *names, seconds = arguments.worker
        return work(kind, names, lambda name: make(name, float(seconds)), **TURNS)
    names = [name for name in parts() if arguments.only in name and not (arguments.no_hubert and name == HUBERT)]
    rows = {}
    for together in ([name for name in names if name == HUBERT], [name for name in names if name != HUBERT]):
        if together:
            rows.update(measure_rows(__file__, together, arguments.seconds))
    report(rows, arguments.seconds)


def report(rows, seconds):
    title = f"training step, {BATCH} x {seconds:g} s, {torch.get_num_threads()} threads"
    deep = {name: row for name, row in rows.items() if name.startswith("17 layers")}
    shallow = {name: row for name, row in rows.items() if name not in deep}
    if shallow:
        print_table(f"{title}, {LAYERS} x {DIM} (ratios to BEST-RQ with the Transformer)", shallow, "BEST-RQ, Transformer")
    if deep:
        print_table(f"{title}, {DEEP['num_layers']} x {DEEP['dim']}", deep, "17 layers: BEST-RQ")
    rows = defaultdict(lambda: NOT_MEASURED, rows)
    best = rows["BEST-RQ, Transformer"]
    if "error" not in rows[HUBERT]:
        print_target("BEST-RQ's time <= 0.03 of HuBERT's", best, rows[HUBERT], "seconds", 0.03)
        print_target("BEST-RQ's memory <= 0.06 of HuBERT's", best, rows[HUBERT], "extra_bytes", 0.06)
    for positions in ("rel_pos", "rope"):
        rival = rows[f"fairseq's Conformer, {positions}"]
        print_target(f"Conformer <= 0.85 of fairseq's ({positions})", rows["part: encoder, Conformer"], rival, "seconds", 0.85)
    print_target("targets <= 0.02 of the step", rows["part: targets"], best, "seconds", 0.02)
    for name in ENCODERS:
        report_birq(rows, name)
    report_latent_rq(rows)


def report_birq(rows, name):
    """BiRQ against BEST-RQ: the unmasked pass costs k/K of an encoder, once for all views, and at most 5 % more."""
    best, joined, views = (rows[f"{method}, {name}"] for method in ("BEST-RQ", "BiRQ", f"BiRQ, {VIEWS} views"))
    encoder = rows[f"part: encoder, {name}"]
    if any("error" in row for row in (best, joined, views, encoder)):
        return print(f"target: BiRQ beside BEST-RQ, {name}: not available")
    share, one_view = encoder["seconds"] / best["seconds"], {"seconds": views["seconds"] / VIEWS}
    for text, row, passes in (("step", joined, 1), (f"time per view of {VIEWS}", one_view, VIEWS)):
        bound = 1.05 * (1 + LABEL_LAYER / LAYERS * share / passes)
        formula = f"1.05 (1 + {LABEL_LAYER / LAYERS:g} x {share:.2f} / {passes}) = {bound:.3g}"
        print_target(f"BiRQ's {text} <= {formula} of BEST-RQ's step, {name}", row, best, "seconds", bound)
    print_target(f"BiRQ's memory <= 1.8 of BEST-RQ's, {name}", joined, best, "extra_bytes", 1.8)


def report_latent_rq(rows):
    """Latent-RQ against BEST-RQ of the same depth and N; the paper's step takes 1.28 of it (PMLR 312:78-93, section 4)."""
    best, latent, views = (rows[f"17 layers: {name}"] for name in ("BEST-RQ", "Latent-RQ", f"Latent-RQ, {DEEP_VIEWS} views"))
    if any("error" in row for row in (best, latent, views)):
        return print("target: Latent-RQ beside BEST-RQ: not available")
    one_view = {"seconds": views["seconds"] / DEEP_VIEWS}
    print_target("Latent-RQ's step <= 1.2 of BEST-RQ's, 17 layers", latent, best, "seconds", 1.2)
    print_target(f"Latent-RQ's time per view of {DEEP_VIEWS} <= 1.12 of BEST-RQ's step", one_view, best, "seconds", 1.12)
    best, latent = (
        {"extra_bytes": row["extra_bytes"] + held_bytes(build())} for row, build in ((best, deep_best_rq), (latent, latent_rq))
    )
    print_target("Latent-RQ's memory <= 1.15 of BEST-RQ's, with weights and gradients", latent, best, "extra_bytes", 1.15)


def held_bytes(model):
    """Weights, buffers and gradients."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return sum(x.numel() * x.element_size() for x in [*model.parameters(), *model.buffers(), *trained])


if __name__ == "__main__":
    main()
