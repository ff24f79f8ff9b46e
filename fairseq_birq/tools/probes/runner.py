"""Run probes on checkpoints and a corpus; results as JSON and as one table."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import torch

from fairseq_birq.builders import build_speech_encoder
from fairseq_birq.checkpoint import load_encoder, load_speech_encoder_state
from fairseq_birq.data.files import write_lines
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.tools.probes import PROBES
from fairseq_birq.tools.probes.base import Settings
from fairseq_birq.tools.probes.states import StateStore, extract
from fairseq_birq.tools.probes.training import Split, evaluate, fit, seeded
from fairseq_birq.tools.probes.verification import read_trials

RESULTS, TABLE = "results.json", "table.md"


@dataclass
class Options:
    """What is asked of every probe of a run."""

    splits: Sequence[str] = ("train", "dev", "test")
    suffixes: Dict[str, str] = field(default_factory=dict)  # task -> suffix of its label files, where not its own
    superb: bool = False  # the benchmark's settings instead of those for small corpora
    changes: Dict[str, float] = field(default_factory=dict)  # fields of `Settings` to set
    seed: int = 1
    normalise_layers: bool = False
    memory_gb: float = 4.0
    device: Optional[str] = None

    def settings(self, task: str) -> Settings:
        chosen = replace(PROBES[task].superb if self.superb else PROBES[task].settings, **self.changes)
        wrong = [key for key, value in asdict(chosen).items() if value <= 0]
        if wrong:
            raise UserError(f"--{wrong[0].replace('_', '-')} must be > 0, but is {getattr(chosen, wrong[0])}")
        return chosen

    def label_path(self, data: Path, task: str, split: str) -> Path:
        return data / f"{split}.{self.suffixes.get(task, PROBES[task].suffix)}"


def run(task: str, checkpoints: Sequence[str], data, out=None, untrained: bool = False, options: Optional[Options] = None):
    """Probe every checkpoint with one task, or with all that the corpus has labels for.

    Args:
        task: a name of `PROBES`, or "all".
        checkpoints: paths, or NAME=PATH; of model `birq` or `birq_ctc`.
        data: folder with <split>.tsv and label files.
        out: folder for results.json, to which is added, and table.md; None keeps nothing.
        untrained: a row for the first checkpoint's architecture with new weights, too.

    Returns:
        Lines to show: the table, and which tasks were left out.

    Raises:
        UserError: a file or a setting is wrong, before anything is computed where that can be seen.
    """
    options, data = options or Options(), Path(data)
    tasks, notes = _tasks(task, data, options)
    for name in tasks:
        options.settings(name)
    encoders = _named(checkpoints, untrained)
    for _, path, _ in encoders:
        load_speech_encoder_state(path)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
    results = _stored(out)
    for name, path, is_new in encoders:
        encoder = new_encoder(path, options.seed) if is_new else load_encoder(path)
        for result in probe_encoder(encoder, data, tasks, options):
            result = {"encoder": name, "checkpoint": str(path), "data": str(data.absolute()), **result}
            same = [result[key] for key in ("encoder", "data", "task")]
            results = [old for old in results if [old[key] for key in ("encoder", "data", "task")] != same] + [result]
            if out is not None:
                write_lines(Path(out) / RESULTS, [json.dumps(results, indent=1)])
                write_lines(Path(out) / TABLE, table(results))
    return table(results) + notes


def new_encoder(checkpoint, seed: int):
    """The architecture of a checkpoint with weights drawn from `seed`, in eval mode."""
    cfg, _ = load_speech_encoder_state(checkpoint)
    with seeded(seed):
        return build_speech_encoder(cfg.frontend, cfg.encoder).eval()


def probe_encoder(encoder, data: Path, tasks: Sequence[str], options: Options):
    """Yield one result after another; hidden states are computed once for all tasks."""
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoder = encoder.to(device).requires_grad_(False).eval()
    step_ms = 1000.0 * encoder.frontend.step_samples / encoder.frontend.sample_rate
    frames = any(PROBES[task].needs_frames for task in tasks)
    stores: Dict[bool, List[StateStore]] = {}
    for split in options.splits:
        store = extract(
            encoder, data / f"{split}.tsv", frames, options.normalise_layers, int(options.memory_gb * (1 << 30)), device
        )
        if frames:
            stores.setdefault(True, []).append(store)
        if not all(PROBES[task].needs_frames for task in tasks):
            stores.setdefault(False, []).append(store.means() if frames else store)
    for task in tasks:
        yield probe_task(task, stores[PROBES[task].needs_frames], data, options, step_ms, device)


def probe_task(task: str, stores: Sequence[StateStore], data: Path, options: Options, step_ms: float, device: str) -> dict:
    """Train and test one probe. stores: of train, dev and test."""
    kind, settings = PROBES[task], options.settings(task)
    names = [data / f"{split}.tsv" for split in options.splits]
    paths = [options.label_path(data, task, split) for split in options.splits]
    symbols = [kind.read(path, store.lengths.tolist(), step_ms / 1000) for path, store in zip(paths, stores)]
    classes, targets = encode(symbols)
    if not classes:
        raise UserError(f"{paths[0]}: has no labels")
    trials = [_trials(kind, path) for path in names]
    train, dev, test = (Split(*parts) for parts in zip(stores, targets, trials))
    with seeded(options.seed):
        num_states, dim = stores[0].states.shape[1:]
        probe = kind(num_states, dim, classes, settings.size, step_ms)
        found = fit(probe, train, dev, settings, options.seed, device, title=task)
        scores = evaluate(found.probe, test, device=device)
    extra = {"too_long_for_ctc": probe.count_too_long(train.targets, train.states.lengths)} if task == "asr" else {}
    return {
        "task": task,
        "measure": kind.measure,
        "test": _rounded(scores),
        "dev": _rounded(found.dev),
        "chance": _rounded({"": kind.chance(train.targets, test.targets)})[""],
        "layer_weights": [round(weight, 6) for weight in probe.layer_sum.weights.tolist()],
        "stopped_at": found.stopped_at,
        "dev_curve": _rounded(found.curve),
        "utterances": [len(store) for store in stores],
        "classes": len(classes),
        "test_symbols_not_in_train": sum(int((row >= len(classes)).sum()) for row in test.targets),
        **extra,
        "settings": {**asdict(settings), "seed": options.seed, "normalise_layers": options.normalise_layers},
    }


def encode(symbols: Sequence[List[List[str]]]) -> Tuple[List[str], List[List[torch.Tensor]]]:
    """Numbers for symbols: -1 for "", from 0 for those of the first split, in order, and beyond them for the others.

    symbols: per split, per utterance. Returns the first split's symbols, and per split and utterance (L,) int64.
    """
    classes = sorted({symbol for row in symbols[0] for symbol in row} - {""})
    ids = {"": -1, **{symbol: index for index, symbol in enumerate(classes)}}
    rows = [
        [torch.tensor([ids.setdefault(symbol, len(ids) - 1) for symbol in row], dtype=torch.int64) for row in split]
        for split in symbols
    ]
    return classes, rows


def table(results: Sequence[dict]) -> List[str]:
    """Lines of a Markdown table: a row per encoder, a column per corpus and task; the chosen measure on test."""
    columns = list(dict.fromkeys((result["data"], result["task"]) for result in results))
    encoders = list(dict.fromkeys(result["encoder"] for result in results))
    cells = {(result["encoder"], result["data"], result["task"]): result for result in results}
    heads, chance, notes = [], [], []
    for data, task in columns:
        column = [result for result in results if (result["data"], result["task"]) == (data, task)]
        arrow = "↑" if PROBES[task].higher_is_better else "↓"
        heads.append(f"{Path(data).name}: {task} {column[0]['measure']} {arrow}")
        chance.append("–" if column[0]["chance"] is None else f"{column[0]['chance']:.1f}")
        if any(result["settings"] != column[0]["settings"] for result in column):
            notes.append(f"{heads[-1]}: rows were made with different settings, see {RESULTS}")
    lines = [f"| encoder | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for encoder in encoders:
        found = [cells.get((encoder, *column)) for column in columns]
        values = ["" if result is None else f"{result['test'][result['measure']]:.1f}" for result in found]
        lines.append(f"| {encoder} | {' | '.join(values)} |")
    return [*lines, f"| without listening | {' | '.join(chance)} |", *notes]


def _tasks(task, data, options):
    """Names of tasks, and lines about those left out."""
    unknown = sorted(set(options.suffixes) - set(PROBES))
    if unknown or task not in (*PROBES, "all"):
        raise UserError(f"there is no probe {unknown[0] if unknown else task!r}; there are {', '.join(PROBES)} and all")
    if len(options.splits) != 3 or len(set(options.splits)) != 3:
        raise UserError(f"--splits needs three different splits, to train, to choose and to test, but is {options.splits}")
    for split in options.splits:
        read_manifest(data / f"{split}.tsv")
    missing = {
        name: [path.name for path in (options.label_path(data, name, split) for split in options.splits) if not path.is_file()]
        for name in (PROBES if task == "all" else [task])
    }
    if task != "all" and missing[task]:
        raise UserError(f"{data}: has no {missing[task][0]}; `--labels {task}=SUFFIX` names other label files")
    tasks = [name for name, absent in missing.items() if not absent]
    if not tasks:
        raise UserError(f"{data}: has label files for none of {', '.join(PROBES)}; see examples/probes/README.md")
    return tasks, [f"left out: {name}, no {' '.join(absent)}" for name, absent in missing.items() if absent]


def _named(checkpoints, untrained):
    """(name, path, whether the weights are new) of every row."""
    rows = []
    for given in checkpoints:
        name, _, path = given.partition("=")
        if not path or Path(given).is_file():
            name, path = f"{Path(given).absolute().parent.name}/{Path(given).stem}", given
        rows.append((name, path, False))
    if untrained:
        rows.append(("untrained", rows[0][1], True))
    names = [name for name, _, _ in rows]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"two checkpoints are called {twice[0]!r}; name them: NAME=PATH")
    return rows


def _stored(out) -> list:
    path = None if out is None else Path(out) / RESULTS
    if path is None or not path.is_file():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is no JSON ({error}); remove it or name another folder") from None


def _trials(kind, manifest_path):
    if kind is not PROBES["sv"]:
        return None
    manifest = read_manifest(manifest_path)
    return read_trials(manifest_path.with_suffix(".trials"), {manifest.name(row): row for row in range(len(manifest))})


def _rounded(numbers):
    return {key: None if value is None else round(value, 3) for key, value in numbers.items()}
