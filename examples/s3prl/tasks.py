"""One of s3prl's own tasks on manifests: its trainer, heads and measures, our data, an upstream of `birq-export --to s3prl`.

    build/s3prl-env/bin/python examples/s3prl/tasks.py TASK UPSTREAM DATA OUT [--updates N] [--seed N]

TASK      sid: `SuperbSID`, <split>.spk · pr: `SuperbPR`, the phones of <split>.phn · asr: `SuperbASR`, <split>.ltr
UPSTREAM  the exported folder, or a name of s3prl's, as fbank
DATA      folder with train, dev and test, as birq-probe reads it

Settings are SUPERB's but for the number of updates, the learning rate (1e-3) and the width of the LSTM (128), which are those of
`birq-probe` for small corpora, and for one batch an update. s3prl resamples audio by itself.
"""

import argparse
import csv
import importlib.util
import sys
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from s3prl import hub
from s3prl.problem import SuperbASR, SuperbPR, SuperbSID

from fairseq_birq.data.manifest import parallel_lines, read_manifest
from fairseq_birq.data.transcripts import from_letters
from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_alignment
from fairseq_birq.measures.label_quality import SILENCES

SPLITS = ("train", "dev", "test")
OUR_UPSTREAM = "fairseq_birq"


class FromManifests:
    """s3prl's `prepare_data` for a task whose answers are in one file per split; `column` is what s3prl calls them."""

    column = "transcription"

    def prepare_data(self, prepare_data, target_dir, cache_dir, get_path_only=False):
        paths = [Path(target_dir) / f"{split}.csv" for split in SPLITS]
        for split, path in zip(SPLITS, paths):
            if not get_path_only:
                self._write(Path(prepare_data["dataset_root"]), split, path)
        return paths[0], paths[1], [paths[2]]

    def _write(self, data: Path, split: str, path: Path) -> None:
        manifest = read_manifest(data / f"{split}.tsv")
        answers = self.answers(data, split, len(manifest))
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "wav_path", self.column])
            for row, answer in enumerate(answers):
                rows.writerow([f"{split}{row:06d}", manifest.audio_path(row), answer])


class Speakers(FromManifests, SuperbSID):
    """Speaker identification: linear, mean over time, linear."""

    column, measure, ours = "label", "accuracy", ("sid", "accuracy")

    def answers(self, data, split, count):
        return parallel_lines(data / f"{split}.spk", count)


class Phones(FromManifests, SuperbPR):
    """Phone recognition: two linear layers on every frame, CTC, greedy decoding."""

    measure, ours = "per", ("phone", "accuracy")

    def answers(self, data, split, count):
        intervals = read_alignment(data / f"{split}.phn")
        return [" ".join(phone for _, _, phone in intervals.get(row, ()) if phone not in SILENCES) for row in range(count)]

    def build_tokenizer(self, build_tokenizer, target_dir, cache_dir, tokenizer_data_path, get_path_only=False):
        """Phones are those of the training split: s3prl's own list is English."""
        if not get_path_only:
            phones = sorted(set(Path(tokenizer_data_path).read_text(encoding="utf-8").split()))
            vocabulary = Path(target_dir) / "phones.txt"
            vocabulary.write_text("\n".join(phones), encoding="utf-8")
            build_tokenizer = {**build_tokenizer, "vocab_file": str(vocabulary)}
        return super().build_tokenizer(build_tokenizer, target_dir, cache_dir, tokenizer_data_path, get_path_only)


class Letters(FromManifests, SuperbASR):
    """Speech recognition: two bidirectional LSTM layers, CTC over letters, greedy decoding."""

    measure, ours = "cer", ("asr", "cer")

    def answers(self, data, split, count):
        return [from_letters(line.split()) for line in parallel_lines(data / f"{split}.ltr", count)]


TASKS = {"sid": Speakers, "pr": Phones, "asr": Letters}


def register(folder: Path) -> str:
    """Make the exported folder an upstream of s3prl, and give its name there."""
    spec = importlib.util.spec_from_file_location(
        OUR_UPSTREAM + "_upstream", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    entry = importlib.import_module(spec.name + ".hubconf")
    setattr(hub, OUR_UPSTREAM, entry.fairseq_birq)
    return OUR_UPSTREAM


def upstream_of(name: str) -> dict:
    folder = Path(name)
    if folder.is_dir():
        return {"name": register(folder), "path_or_url": str(folder / "model.safetensors")}
    if not hasattr(hub, name):
        raise UserError(f"{name}: neither a folder of `birq-export --to s3prl` nor an upstream of s3prl")
    return {"name": name}


def run(task: str, upstream: str, data: str, out: str, updates: int, seed: int) -> float:
    """Train and test; the measure on test, in per cent."""
    problem = TASKS[task]()
    changes = {
        "target_dir": out,
        "cache_dir": f"{out}/cache",
        "prepare_data": {"dataset_root": data},
        "build_upstream": upstream_of(upstream),
        "build_optimizer": {"conf": {"lr": 1e-3}},
        "train": {
            "total_steps": updates,
            "eval_step": max(1, min(updates, 250)),
            "save_step": updates,
            "gradient_accumulate": 1,
            "seed": seed,
        },
    }
    if task == "asr":
        changes["build_downstream"] = {"model_conf": {"proj_size": 128, "hidden_size": [128, 128]}}
    cfg = OmegaConf.to_container(OmegaConf.merge(problem.default_config(), changes), resolve=True, throw_on_missing=True)
    problem.run(**cfg, device="cpu", num_workers=0)
    found = yaml.safe_load((Path(out) / "evaluate/valid_best/test/result.yaml").read_text())
    return 100.0 * found[problem.measure]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("upstream")
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    try:
        measured = run(**vars(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.task} {TASKS[args.task].measure} {measured:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
