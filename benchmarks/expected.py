"""What an update of a recipe asks of a GPU, counted on a CPU: operations and memory, and from them times that nobody measured.

    python benchmarks/expected.py examples/birq/c2_librispeech.yaml --seconds 12.3 --json expected.json

Forward and backward of one utterance and of two, in bf16 with random weights: floating-point operations of the matrix products
(`torch.utils.flop_counter`, without convolutions, whose groups it does not know), and bytes that autograd keeps for backward,
each storage once. The difference is what one more utterance costs. Times are these operations divided by a share (MFU) of
what the GPU can do at most. The launches, the optimizer, the exchange of gradients and the loader are not in them, so that
many GPUs with an utterance or two each are far from them.
"""

import argparse
import json
from pathlib import Path

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from fairseq_birq.model import BirqModel

PEAK_TFLOPS = 989  # an H100's bf16, dense, as its maker says
STATE_BYTES = 2 + 2 + 4 + 4 + 8  # a parameter and its gradient in bf16, their float32 copies, two moments
SHARES = (0.2, 0.4)


def main():
    arguments = parser().parse_args()
    rows = [expected(path, arguments) for path in arguments.recipes]
    for row in rows:
        print(table(row))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n")


def expected(path, arguments) -> dict:
    """Counts of a recipe, and what follows from them for each number of GPUs."""
    recipe = yaml.safe_load(Path(path).read_text())
    model = BirqModel.build_model(recipe["model"]).train()
    stage = begin_last_stage(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    one, two = (count(model.bfloat16(), arguments.seconds, utterances) for utterances in (1, 2))
    flops, kept = two[0] - one[0], two[1] - one[1]
    samples = arguments.seconds * model.speech_encoder.frontend.sample_rate
    per_gpu = recipe["dataset"].get("batch_size") or int(recipe["dataset"]["max_tokens"] / samples)
    world, update_freq = recipe["distributed_training"]["distributed_world_size"], recipe["optimization"]["update_freq"][0]
    per_update = per_gpu * world * update_freq
    updates = recipe["optimization"]["max_update"]
    row = {"recipe": str(path), "stage": stage, "seconds": arguments.seconds, "tflop_per_utterance": flops / 1e12}
    row.update(gib_kept_per_utterance=kept / 2**30, utterances_per_update=per_update, updates=updates)
    row["gib_of_weights_and_optimizer"] = sum(parameter.numel() for parameter in trained) * STATE_BYTES / 2**30
    row["gpus"] = [for_gpus(row, gpus, arguments.gib) for gpus in arguments.gpus]
    return row


def begin_last_stage(model) -> int:
    """Latent-RQ's frozen encoder runs from stage 1 on."""
    if model.staged is None:
        return 0
    model.set_num_updates(model.staged.target_updates[0])
    return model.staged.stage


def count(model, seconds, utterances):
    """(floating-point operations, bytes kept for backward) of a batch of noise."""
    samples = int(seconds * model.speech_encoder.frontend.sample_rate)
    waveform = 0.1 * torch.randn(utterances, samples, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mask, ids, storages = torch.zeros(utterances, samples, dtype=torch.bool), torch.arange(utterances), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = (storage.nbytes(), storage)  # held, so that no other gets its place
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = model(waveform, mask, ids).loss
        loss.backward()
    products = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items() if "convolution" not in str(op)}
    return sum(products.values()), sum(size for size, _ in storages.values())


def for_gpus(row, gpus, gib) -> dict:
    """The paper's batch on so many GPUs: in one go if it fits, else with update_freq."""
    room = int(0.9 * (gib - row["gib_of_weights_and_optimizer"]) / row["gib_kept_per_utterance"])
    mine = -(-row["utterances_per_update"] // gpus)
    update_freq = -(-mine // max(room, 1))
    found = {"gpus": gpus, "utterances_per_gpu": -(-mine // update_freq), "update_freq": update_freq, "utterances_that_fit": room}
    found["gib"] = row["gib_of_weights_and_optimizer"] + found["utterances_per_gpu"] * row["gib_kept_per_utterance"]
    for share in SHARES:
        seconds = mine * row["tflop_per_utterance"] / (share * PEAK_TFLOPS)
        found[f"updates_per_second_at_{share:.0%}_mfu"] = 1 / seconds
        found[f"hours_at_{share:.0%}_mfu"] = seconds * row["updates"] / 3600
    return found


def table(row) -> str:
    head = (
        f"{row['recipe']} (stage {row['stage']}): {row['tflop_per_utterance']:.3f} TFLOP and "
        f"{row['gib_kept_per_utterance']:.2f} GiB an utterance of {row['seconds']} s; "
        f"{row['gib_of_weights_and_optimizer']:.1f} GiB of weights and optimizer. Computed."
    )
    lines = [
        head,
        "",
        "| H100s | utterances each | update_freq | GiB | updates/s at 20 % / 40 % MFU | hours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in row["gpus"]:
        speeds = " / ".join(f"{one[f'updates_per_second_at_{share:.0%}_mfu']:.1f}" for share in SHARES)
        hours = " / ".join(f"{one[f'hours_at_{share:.0%}_mfu']:.1f}" for share in SHARES)
        lines.append(
            f"| {one['gpus']} | {one['utterances_per_gpu']} | {one['update_freq']} | {one['gib']:.0f} | {speeds} | {hours} |"
        )
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", help="YAMLs of pre-training")
    parser.add_argument("--seconds", type=float, default=12.3, help="of an utterance (12.3, LibriSpeech's mean)")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--gib", type=float, default=79.0, help="memory of a GPU (79)")
    parser.add_argument("--json", help="also written there")
    return parser


if __name__ == "__main__":
    main()
