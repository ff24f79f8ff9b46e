"""How far gradients in half precision are from float32's, at a recipe's own size, on a CPU.

    python benchmarks/precision.py examples/birq/c2_librispeech.yaml --json precision.json

One batch of noise, forward and backward, with the recipe's random weights, its weights of the sources, and no dropout: once in
float32, once in each precision, with weights, features and hidden states as fairseq's half precision has them. The cosine is of
all gradients as one vector; `rounded` computes in float32 with weights rounded to bf16, so that the arithmetic is told from the
weights. Every source is also measured alone. In stage 0 of Latent-RQ. C2 takes ten minutes on one core, and 12 GB.
"""

import argparse
import copy
import json
import platform
from pathlib import Path

import torch
import yaml
from torch.nn import functional as F

from fairseq_birq.model import BirqModel

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
FP16_SCALE = 128.0  # fairseq's `common.fp16_init_scale`
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "layer_dropout")


def main(argv=None):
    arguments = parser().parse_args(argv)
    rows = [measured(Path(recipe), arguments) for recipe in arguments.recipes]
    for row in rows:
        print(table(row))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n")


def measured(path: Path, arguments) -> dict:
    """Cosines and lengths of a recipe's gradients, by precision, by source and by part of the model."""
    recipe = yaml.safe_load(path.read_text())
    torch.manual_seed(arguments.seed)
    model = BirqModel.build_model(without_dropout(recipe["model"])).train()
    weights = {name: recipe["criterion"].get("weights", {}).get(name, 1.0) for name in model.targets}
    row = {"recipe": path.name, "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)}
    row.update(utterances=arguments.utterances, seconds=arguments.seconds, seed=arguments.seed)
    row.update(machine=platform.processor() or platform.machine(), torch=torch.__version__, weights=weights)
    used = [weights] if len(weights) == 1 else [weights, *({**dict.fromkeys(weights, 0.0), name: 1.0} for name in weights)]
    names = ["all"] + [name for name in weights if len(weights) > 1]
    row["sources"] = {name: compare(model, chosen, arguments) for name, chosen in zip(names, used)}
    return row


def without_dropout(settings: dict) -> dict:
    """Other precisions would draw other random numbers."""
    encoder = {**settings["encoder"], **{key: 0.0 for key in DROPOUTS if key in settings["encoder"]}}
    return {**settings, "encoder": {**encoder, "dropout": 0.0, "attention_dropout": 0.0}}


def compare(model, weights, arguments) -> dict:
    """{precision: {"cosine", "length_ratio", "loss", "by_part"}}."""
    exact, loss = gradients(copy.deepcopy(model), weights, arguments)
    found = {"float32": {"loss": loss}}
    for name in ("rounded", *arguments.precisions):
        changed = copy.deepcopy(model)
        changed = changed.bfloat16().float() if name == "rounded" else changed.to(PRECISIONS[name])
        other, loss = gradients(changed, weights, arguments, FP16_SCALE if name == "fp16" else 1.0)
        parts = {part: cosine(exact[part], other[part]) for part in exact}
        whole = torch.cat(list(exact.values())), torch.cat(list(other.values()))
        found[name] = {"cosine": cosine(*whole), "length_ratio": float(whole[1].norm() / whole[0].norm())}
        found[name].update(loss=loss, by_part=parts)
    return found


def gradients(model, weights, arguments, scale: float = 1.0):
    """({part of the model: (values,) float64}, loss) of one batch."""
    samples = int(arguments.seconds * model.speech_encoder.frontend.sample_rate)
    generator = torch.Generator().manual_seed(arguments.seed)
    waveform = 0.1 * torch.randn(arguments.utterances, samples, generator=generator, dtype=torch.float64)
    mask = torch.zeros(waveform.shape, dtype=torch.bool)
    mask[-1, int(0.9 * samples) :] = True
    loss = model(waveform, mask, torch.arange(arguments.utterances), weights).loss
    (loss * scale).backward()
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found.setdefault(part_of(name), []).append(parameter.grad.flatten().double() / scale)
            parameter.grad = None
    return {part: torch.cat(values) for part, values in found.items()}, float(loss.detach())


def part_of(name: str) -> str:
    """`frontend`, `layer 3` or `heads`."""
    pieces = name.split(".")
    if "layers" in pieces:
        return f"layer {int(pieces[pieces.index('layers') + 1]) + 1}"
    return "frontend" if "frontend" in pieces else pieces[0]


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(F.cosine_similarity(a, b, dim=0))


def table(row) -> str:
    head = (
        f"{row['recipe']}: {row['parameters'] / 1e6:.0f} M parameters, {row['utterances']} x {row['seconds']} s of noise, random "
        f"weights, seed {row['seed']}, on a CPU.\n\n| source | precision | cosine with float32 | length | lowest part |\n"
        "| --- | --- | --- | --- | --- |"
    )
    lines = [head]
    for source, found in row["sources"].items():
        for name, one in found.items():
            if name != "float32":
                part, low = min(one["by_part"].items(), key=lambda item: item[1])
                lines.append(f"| {source} | {name} | {one['cosine']:.4f} | {one['length_ratio']:.3f} | {part}: {low:.4f} |")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", help="YAMLs of pre-training")
    parser.add_argument("--precisions", nargs="*", default=["bf16"], choices=list(PRECISIONS), help="beside float32 (bf16)")
    parser.add_argument("--utterances", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=12.3, help="of an utterance (12.3, LibriSpeech's mean)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="also written there")
    return parser


if __name__ == "__main__":
    main()
