"""The whole report of a run, put together and written."""

from pathlib import Path
from typing import Dict, Optional, Sequence
from xml.etree.ElementTree import Element

from fairseq_birq.data.files import written_whole
from fairseq_birq.errors import UserError
from fairseq_birq.tools.pictures import curves
from fairseq_birq.tools.report import labels, reference, training
from fairseq_birq.tools.report.decodings import decodings_section
from fairseq_birq.tools.report.html import document, missing, node, section
from fairseq_birq.tools.report.probes import probes_section
from fairseq_birq.tools.report.run import Run, read_run
from fairseq_birq.tools.report.settings import environment_section, settings_section

_METHODS = {("raw_input",): "BEST-RQ", ("own_layer", "raw_input"): "BiRQ", ("snapshot",): "Latent-RQ"}


def write(
    run_dir,
    out=None,
    log=None,
    references: Sequence[str] = (),
    manifest=None,
    alignment=None,
    tier: str = "phones",
    minutes: float = 20.0,
    row: int = 0,
    probes=None,
    generate=None,
    samples: int = 8,
) -> Path:
    """Write one HTML file about a run and return its path; the same inputs give the same bytes.

    Args:
        run_dir: `checkpoint.save_dir` of a pre-training or fine-tuning run.
        out: the file; RUN_DIR/report.html.
        log: where it is not in `run_dir`.
        references: logs to compare with instead of ours.
        manifest, alignment, tier, minutes, row: to measure labels and draw an utterance.
        probes: `results.json` of birq-probe.
        generate: what fairseq-generate printed; `samples` of it are shown.

    Raises:
        UserError: a file is missing or is something else; nothing is written then.
    """
    if alignment is not None and manifest is None:
        raise UserError("--alignment needs --manifest, whose rows it aligns")
    if samples < 1:
        raise UserError(f"--samples must be at least 1, but is {samples}")
    run = read_run(run_dir, log)
    compared = reference.of_logs(references) if references else reference.choose(run.log)
    on_manifest = dict(manifest=manifest, alignment=alignment, tier=tier)
    sections = [
        _glance(run),
        training.curves_section(run.log, compared),
        *_label_sections(run, on_manifest, minutes, row),
        probes_section(probes),
        decodings_section(generate, samples),
        settings_section(run, training.differences_section(run.settings, compared)),
        environment_section(run),
    ]
    out = Path(out) if out is not None else run.folder / "report.html"
    with written_whole(out) as file:
        file.write(document(f"{_method(run)}: {run.folder.resolve().name}", sections))
    return out


def _method(run: Run) -> str:
    if run.model == "birq_ctc":
        return "CTC fine-tuning"
    return _METHODS.get(tuple(reference.main_sources(run.log)), "Pre-training" if run.model == "birq" else "Run")


def _label_sections(run: Run, on_manifest, minutes, row):
    if not _can_label(run):
        why = "the checkpoint is no pre-training checkpoint" if run.checkpoint else "there is no checkpoint"
        note = [] if on_manifest["manifest"] is None else [node("p", f"Nothing was measured on the manifest: {why}.")]
        return [training.health_section(run.log, run.settings, note)]
    if on_manifest["manifest"] is None:
        note = missing("Codes measured on a corpus", "--manifest FOLDER/<split>.tsv, with --alignment FILE for phones")
        picture = missing("Log-Mel, mask and codes of one utterance", "--manifest FOLDER/<split>.tsv")
        return [training.health_section(run.log, run.settings, [note]), section("utterance", "One utterance", picture)]
    measured = labels.measured(run.checkpoint, minutes=minutes, **on_manifest)
    utterance = labels.utterance_section(run.checkpoint, row=row, **on_manifest)
    return [training.health_section(run.log, run.settings, measured), utterance]


def _can_label(run: Run) -> bool:
    return run.checkpoint is not None and run.model == "birq"


def _glance(run: Run) -> Element:
    """Method, how far it came, its last numbers."""
    wanted: Optional[int] = (run.settings.get("optimization") or {}).get("max_update")
    facts: Dict[str, object] = {
        "method": _method(run),
        "folder": str(run.folder),
        "checkpoint": run.checkpoint.name if run.checkpoint else "none",
    }
    facts["updates"] = f"{run.updates} of {wanted}" if wanted else str(run.updates)
    for group in sorted(run.log):
        for name in ("loss", "wer", "cer"):
            series = curves.series(run.log, group, name)
            if series and group != "train":
                label = "training" if group == "train_inner" else group
                unit = "" if name == "loss" else " %"
                best = f", lowest {min(series.values()):g}{unit}" if len(series) > 1 else ""
                facts[f"{name}, {label}"] = f"{series[max(series)]:g}{unit}{best}"
    facts.update({f"codes of {name}": verdict for name, verdict in training.verdicts(run.log, run.settings).items()})
    parts = [part for name, value in facts.items() for part in (node("dt", name), node("dd", value))]
    return section("glance", "At a glance", node("dl", *parts))
