"""Every file and folder that a command reads, given every kind of thing that it is not: one sentence, never a traceback.

Checkpoints have a table of their own, `test_wrong_checkpoints.py`, but for those that `birq-doctor` and `birq-report` read.
"""

import shutil

import numpy as np
import pytest

from fairseq_birq.cli import audit, doctor, labels, manifest, plot, probe, report, transcribe
from tests.fixtures.audio import tone, truncate, write_audio
from tests.fixtures.checkpoints import write_birq_checkpoint, write_ctc_checkpoint
from tests.fixtures.labels import write_labels
from tests.fixtures.manifests import write_manifest, write_two_sounds

RANDOM = np.random.default_rng(1).bytes(3000)
KINDS = {  # kind -> how it is made, at a path that is free
    "missing": lambda path, files: None,
    "empty": lambda path, files: path.write_bytes(b""),
    "folder": lambda path, files: path.mkdir(),
    "prose": lambda path, files: path.write_text("Once upon a time\nthere was no such thing.\n"),
    "binary": lambda path, files: path.write_bytes(RANDOM),
    "checkpoint": lambda path, files: shutil.copy(files / "good.pt", path),
    "truncated": lambda path, files: truncate(shutil.copy(files / "good.pt", path)),
}
DOCTOR = "YAML common.user_dir=USER task.data=DATA checkpoint.save_dir=OUT common.cpu=true --no-steps"
CTC = DOCTOR.replace("YAML", "CTC.yaml").replace("DATA", "LETTERS")
READ = {  # name -> arguments, of which WRONG is to be a file or folder of another kind
    "audit MANIFEST": (audit.main, "WRONG --out OUT"),
    "audit --alignment": (audit.main, "MANIFEST --alignment WRONG --out OUT"),
    "labels MANIFEST": (labels.main, "good.pt WRONG OUT --layer 1"),
    "labels --like": (labels.main, "good.pt MANIFEST OUT --like WRONG"),
    "manifest FOLDER": (manifest.main, "WRONG OUT"),
    "manifest --transcripts": (manifest.main, "DATA OUT --transcripts WRONG"),
    "manifest kaldi": (manifest.main, "kaldi WRONG OUT"),
    "manifest lhotse": (manifest.main, "lhotse WRONG OUT"),
    "plot curves": (plot.main, "curves WRONG --out OUT.png"),
    "plot layer-weights": (plot.main, "layer-weights WRONG --out OUT.png"),
    "plot codes --manifest": (plot.main, "codes good.pt --manifest WRONG --alignment PHONES --out OUT.png"),
    "plot codes --alignment": (plot.main, "codes good.pt --manifest MANIFEST --alignment WRONG --out OUT.png"),
    "plot tsne --speakers": (
        plot.main,
        "tsne good.pt --manifest MANIFEST --alignment PHONES --speakers WRONG --out OUT.png",
    ),
    "plot utterance --before": (plot.main, "utterance good.pt --manifest MANIFEST --before WRONG --out OUT.png"),
    "probe DATA": (probe.main, "phone good.pt WRONG"),
    "report RUN_DIR": (report.main, "WRONG --out OUT"),
    "report --log": (report.main, "RUN --log WRONG --out OUT"),
    "report --reference": (report.main, "RUN --reference WRONG --out OUT"),
    "report --manifest": (report.main, "RUN --manifest WRONG --out OUT"),
    "report --alignment": (report.main, "RUN --manifest MANIFEST --alignment WRONG --out OUT"),
    "report --probes": (report.main, "RUN --probes WRONG --out OUT"),
    "report --generate": (report.main, "RUN --generate WRONG --out OUT"),
    "transcribe AUDIO": (transcribe.main, "ctc.pt WRONG"),
    "transcribe --lexicon": (transcribe.main, "ctc.pt AUDIO --lexicon WRONG"),
    "transcribe --lm": (transcribe.main, "ctc.pt AUDIO --lexicon LEXICON --lm WRONG"),
    "transcribe --dictionary": (transcribe.main, "letterless.pt AUDIO --dictionary WRONG"),
    "doctor CONFIG": (doctor.main, DOCTOR.replace("YAML", "WRONG")),
    "doctor task.data": (doctor.main, DOCTOR.replace("DATA", "WRONG")),
    "doctor user_dir": (doctor.main, DOCTOR.replace("USER", "WRONG")),
    "doctor pretrained_path": (doctor.main, f"{CTC} model.pretrained_path=WRONG".replace("--no-steps ", "")),
}
RIGHT = {("plot tsne --speakers", "prose"), ("plot utterance --before", "checkpoint"), ("doctor pretrained_path", "checkpoint")}
SLOW = {"checkpoint", "truncated"}


@pytest.fixture(scope="module")
def files(tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp("wrong_files")
    write_two_sounds(folder / "data", "train", utterances=2)
    write_two_sounds(folder / "data", "valid", utterances=2)
    for split in ("train", "valid"):
        write_manifest(folder / "letters", split, (1.0, 1.5), texts=["ab a", "b"])
    write_labels(folder / "labels", folder / "data" / "train.tsv")
    write_audio(folder / "one.wav", tone(0.5))
    (folder / "lexicon.txt").write_text("ab\ta b |\n")
    write_birq_checkpoint(folder / "good.pt")
    write_ctc_checkpoint(folder / "ctc.pt")
    write_ctc_checkpoint(folder / "letterless.pt")
    (folder / "run").mkdir()
    write_birq_checkpoint(folder / "run" / "checkpoint_last.pt")
    return folder


def run(files, repository, name, wrong, out):
    main, arguments = READ[name]
    examples = repository / "examples"
    places = {
        "USER": repository / "fairseq_birq",
        "YAML": examples / "best_rq" / "debug.yaml",
        "CTC.yaml": examples / "finetune" / "debug.yaml",
        "MANIFEST": files / "data" / "train.tsv",
        "PHONES": files / "data" / "train.phn",
        "DATA": files / "data",
        "LETTERS": files / "letters",
        "LEXICON": files / "lexicon.txt",
        "RUN": files / "run",
        "AUDIO": files / "one.wav",
        "OUT": out,
        "OUT.png": out.with_suffix(".png"),
        "WRONG": wrong,
        **{f"{name}.pt": files / f"{name}.pt" for name in ("good", "ctc", "letterless")},
    }

    def placed(word):
        key, equals, value = word.rpartition("=")
        return f"{key}{equals}{places.get(value, value)}"

    return main([placed(word) for word in arguments.split()])


CASES = [
    pytest.param(name, kind, marks=[pytest.mark.slow] * (kind in SLOW or name == "doctor pretrained_path"))
    for name in READ
    for kind in KINDS
    if (name, kind) not in RIGHT
]


@pytest.mark.parametrize("name, kind", CASES)
def test_what_is_of_another_kind_is_named_in_a_sentence(files, repository, tmp_path, capsys, name, kind):
    wrong = tmp_path / "strange"
    KINDS[kind](wrong, files)
    status = run(files, repository, name, wrong, tmp_path / "out")
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert status in (1, 2), said
    assert (wrong.name if name == "doctor CONFIG" else str(wrong)) in said, said
    assert "Traceback" not in said and (captured.err.count("error:") == 1 or name.startswith("doctor")), said
