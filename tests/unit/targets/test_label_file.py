"""Training on labels from files: which ones are refused, and that it equals training on the same labels made online."""

import copy
import re
import shutil

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_birq.config import BirqConfig, PretrainingTaskConfig
from fairseq_birq.doors.birq import FairseqBirqModel as BirqModel
from fairseq_birq.doors.pretraining_task import PretrainingTask
from fairseq_birq.errors import UserError
from fairseq_birq.tools.relabel.label_sources import SourceCodes
from fairseq_birq.tools.relabel.labelling import make
from tests.fixtures.audio import truncate
from tests.fixtures.checkpoints import tiny_config, write_birq_checkpoint
from tests.fixtures.errors import stops
from tests.fixtures.labels import write_labels
from tests.fixtures.manifests import write_manifest

QUANTIZER = {"codebook_size": 16, "codebook_dim": 4, "num_codebooks": 1}


def model_config(path=None, **settings):
    use = {"use": ["label_file"], "label_file": {"path": str(path)}} if path else {"use": ["raw_input"]}
    return tiny_config(BirqConfig, quantizer=QUANTIZER, mask={"start_prob": 0.03}, targets=use, **settings)


def corpus(folder, splits=("train", "valid"), seconds=(1.5, 1.0, 2.0, 0.7, 1.2)):
    for split in splits:
        write_manifest(folder, split, seconds=seconds)
    return folder


def labelled_task(folder, labels, model=None, **settings):
    """A task that has built a model with `label_file` targets, and that model."""
    task = PretrainingTask.setup_task(PretrainingTaskConfig(data=str(folder), **settings))
    cfg = model_config(labels, **(model or {}))
    cfg._name = "birq"
    torch.manual_seed(3)
    return task, task.build_model(cfg)


def batches(task, split="train"):
    task.load_dataset(split)
    dataset = task.dataset(split)
    return [dataset.collater([dataset[row] for row in rows])["net_input"] for rows in ((0, 1), (2, 3, 4))]


def train(model, net_inputs, updates=5):
    """Losses of every update; the model is trained with dropout and Adam."""
    torch.manual_seed(4)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.01), []
    for update in range(updates):
        model.train().set_num_updates(update)
        output = model(**net_inputs[update % len(net_inputs)])
        optimizer.zero_grad()
        (output.loss / output.num_masked).backward()
        optimizer.step()
        losses.append(output.loss.item())
    return losses


@pytest.mark.parametrize("views", [1, 2])
def test_training_on_written_labels_equals_training_online_bit_for_bit(tmp_path, views):
    write_birq_checkpoint(tmp_path / "any.pt")
    corpus(tmp_path)
    make(tmp_path / "any.pt", tmp_path / "train.tsv", tmp_path / "labels" / "train", SourceCodes("raw_input"))
    task, offline = labelled_task(tmp_path, tmp_path / "labels", model={"masked_views": views})
    given = batches(task)
    torch.manual_seed(3)
    online = BirqModel.build_model(model_config(masked_views=views))
    bare = [{key: value for key, value in net_input.items() if key != "codes"} for net_input in given]
    assert train(offline, given) == train(online, bare)
    pairs = zip(offline.named_parameters(), online.named_parameters())
    for (name, ours), (same, theirs) in pairs:
        assert name.replace("label_file", "raw_input") == same and torch.equal(ours, theirs), name
    other = copy.deepcopy(given)
    other[0]["codes"][other[0]["codes"] >= 0] ^= 1
    torch.manual_seed(3)
    assert train(BirqModel.build_model(model_config(tmp_path, masked_views=views)), other) != train(online, bare)


def test_a_crop_trains_on_the_labels_of_its_place(tmp_path):
    """The codes that carry the loss are the labels of the utterance's masked frames, shifted by the crop's place."""
    written = write_labels(tmp_path / "labels" / "train", corpus(tmp_path) / "train.tsv", num_codebooks=1, codebook_size=16)
    task, model = labelled_task(tmp_path, tmp_path / "labels", max_seconds=0.9)
    task.load_dataset("train")
    dataset, shifts, seen = task.dataset("train"), set(), []
    model.eval().targets["label_file"].register_forward_hook(lambda _, inputs, codes: seen.append((inputs[0].frames()[1], codes)))
    for epoch in range(1, 6):
        dataset.set_epoch(epoch)
        shift = dataset._crop(2, 2)[0] // 640
        model(**dataset.collater([dataset[2]])["net_input"])
        columns, codes = seen[-1]
        assert len(codes) > 0 and codes[:, 0].tolist() == written[2][shift + columns.numpy(), 0].tolist()
        shifts.add(shift)
    assert len(shifts) > 2


def test_mixed_with_another_source_and_with_a_batch_of_bad_audio(tmp_path):
    write_labels(tmp_path / "labels" / "train", corpus(tmp_path) / "train.tsv", num_codebooks=1, codebook_size=16)
    task, _ = labelled_task(tmp_path, tmp_path / "labels", bad_audio_budget=1.0)
    (first, _), cfg = batches(task), model_config(tmp_path)
    cfg.targets.use = ["label_file", "raw_input"]
    model = BirqModel.build_model(cfg)
    output = model(**first)
    assert set(output.terms) == {"raw_input", "label_file"} and set(model.heads) == {"raw_input", "label_file"}
    truncate(task.dataset("train").manifest.audio_path(0))
    empty = task.dataset("train").collater([task.dataset("train")[0]])["net_input"]
    output = model(**empty)
    output.loss.backward()
    assert output.num_masked == 0 and output.loss.item() == 0.0


def test_a_batch_without_labels_and_a_missing_path_are_user_errors(tmp_path, caplog):
    write_labels(tmp_path / "labels" / "train", corpus(tmp_path) / "train.tsv", num_codebooks=1, codebook_size=16)
    task, model = labelled_task(tmp_path, tmp_path / "labels")
    net_input = batches(task)[0]
    del net_input["codes"]
    with pytest.raises(UserError, match="need batches with labels"):
        model(**net_input)
    cfg = model_config(tmp_path)
    cfg.targets.label_file.path, cfg._name = None, "birq"
    stops(caplog, "`task.frame_labels` is not set, nor `model.targets.label_file.path`", task.build_model, cfg)


def test_the_task_may_name_the_labels(tmp_path):
    """In place of the model, whose settings go into every checkpoint."""
    corpus(tmp_path)
    for name, seed in (("mine", 0), ("others", 1)):
        write_labels(tmp_path / name / "train", tmp_path / "train.tsv", num_codebooks=1, codebook_size=16, seed=seed)
    task, _ = labelled_task(tmp_path, tmp_path / "others", frame_labels=str(tmp_path / "mine"))
    task.load_dataset("train")
    assert task.dataset("train").frame_labels.folder == tmp_path / "mine" / "train"


@pytest.mark.parametrize(
    "model, task, part",
    [
        ({"quantizer": {**QUANTIZER, "num_codebooks": 2}}, {}, "num_codebooks 1, but this run has 2.*model.quantizer.num_cod"),
        ({"quantizer": {**QUANTIZER, "codebook_size": 17}}, {}, "codebook_size 16, but this run has 17"),
        ({"frontend": {"sample_rate": 8000}}, {"sample_rate": 8000}, "sample_rate 16000, but this run has 8000"),
        ({"frontend": {"hop_ms": 5.0}}, {}, "this run has .*; set `model.frontend` as in the labels"),
        ({"frontend": {"window_ms": 32.0}}, {}, "first_frame_samples 880, but this run has 992; set `model.frontend`"),
        ({}, {"crop_step_samples": 100}, "`task.crop_step_samples` must be a multiple"),
    ],
)
def test_labels_that_do_not_fit_the_run_are_refused(tmp_path, caplog, model, task, part):
    write_labels(tmp_path / "labels" / "train", corpus(tmp_path) / "train.tsv", num_codebooks=1, codebook_size=16)
    task = PretrainingTask.setup_task(PretrainingTaskConfig(data=str(tmp_path), **task))
    task.build_model(OmegaConf.merge(model_config(tmp_path / "labels"), model, {"_name": "birq"}))
    with pytest.raises(SystemExit):
        task.load_dataset("train")
    assert len(caplog.messages) == 1 and re.search(part, caplog.messages[0])


def test_labels_of_another_manifest_split_or_job_are_refused(tmp_path, caplog):
    fits, labels = dict(num_codebooks=1, codebook_size=16), tmp_path / "labels"
    corpus(tmp_path)
    write_manifest(tmp_path, "other", seconds=(1.0, 1.5))
    write_labels(labels / "train", tmp_path / "train.tsv", **fits)
    write_labels(labels / "valid", tmp_path / "other.tsv", **fits)
    write_labels(labels / "other", tmp_path / "other.tsv", seed=1, **fits)
    task, _ = labelled_task(tmp_path, labels)
    task.load_dataset("train")
    stops(caplog, "labels/valid: holds labels of another manifest with 2 rows", task.load_dataset, "valid")
    stops(caplog, "labels/other: its labels come from another checkpoint or quantizer", task.load_dataset, "other")
    write_manifest(tmp_path, "none")
    stops(caplog, "labels/none/labels.json: no such file; make labels with `birq-labels", task.load_dataset, "none")


def test_a_run_goes_on_with_the_labels_that_it_began_with(tmp_path, caplog):
    fits = dict(num_codebooks=1, codebook_size=16)
    corpus(tmp_path)
    for name, seed in (("first", 0), ("second", 1)):
        write_labels(tmp_path / name / "train", tmp_path / "train.tsv", seed=seed, **fits)
    (first, model), (again, twin), (second, other) = (labelled_task(tmp_path, tmp_path / n) for n in ("first", "first", "second"))
    for task in (first, again, second):
        task.load_dataset("train")
    state = model.state_dict()
    assert not any(torch.is_tensor(value) for key, value in state.items() if key.startswith("targets."))
    twin.load_state_dict(state)
    with pytest.raises(SystemExit):
        other.load_state_dict(state)
    for name, message in (("first", None), ("second", "targets have fingerprint")):  # loaded before labels are open, as
        task, later = labelled_task(tmp_path, tmp_path / name)  # fairseq does where nothing is validated
        later.load_state_dict(state)
        stops(caplog, message, task.load_dataset, "train") if message else task.load_dataset("train")
    settings = {**OmegaConf.to_container(model_config(tmp_path), enum_to_str=True), "_name": "birq"}
    torch.save({"cfg": {"model": settings}, "model": state}, str(tmp_path / "trained.pt"))
    loaded = BirqModel.from_checkpoint(tmp_path / "trained.pt")  # where no labels are needed
    assert torch.equal(loaded.heads["label_file"].weight, model.heads["label_file"].weight)
    with pytest.raises(UserError, match="no target source `label_file` to label with; it has \\[\\]"):
        make(tmp_path / "trained.pt", tmp_path / "train.tsv", tmp_path / "out", SourceCodes("label_file"))


def test_shards_and_corpora_have_labels_of_their_own(tmp_path, caplog):
    fits = dict(num_codebooks=1, codebook_size=16)
    folders = [corpus(tmp_path / name, seconds=seconds) for name, seconds in [("a", [1.0, 1.5]), ("b", [0.8, 1.2, 2.0])]]
    written = {
        (name, split): write_labels(tmp_path / "labels" / name / split, folder / f"{split}.tsv", **fits)
        for name, folder in zip("ab", folders)
        for split in ("train", "valid")
    }

    def same_codes(dataset, index, name, row):
        return (dataset[index]["codes"].numpy() == written[name, "train"][row]).all()

    task, _ = labelled_task(f"{folders[0]}:{folders[1]}", f"{tmp_path}/labels/a:{tmp_path}/labels/b")
    for epoch, name in [(1, "a"), (2, "b"), (3, "a")]:
        task.load_dataset("train", epoch=epoch)
        dataset = task.dataset("train")
        assert all(same_codes(dataset, row, name, row) for row in range(len(dataset)))
    one, _ = labelled_task(f"{folders[0]}:{folders[1]}", f"{tmp_path}/labels/a")
    stops(caplog, "names 1 folders, but `task.data` 2", one.load_dataset, "train", epoch=2)
    for missing, message in ((False, "come from another checkpoint or quantizer"), (True, "labels.json: no such file")):
        early, _ = labelled_task(f"{folders[0]}:{folders[1]}", f"{tmp_path}/labels/a:{tmp_path}/labels/c")
        if not missing:
            write_labels(tmp_path / "labels" / "c" / "train", folders[1] / "train.tsv", **fits, fingerprint="another")
        else:
            shutil.rmtree(tmp_path / "labels" / "c")
        stops(caplog, message, early.load_dataset, "train", epoch=1, data_selector=None)  # and not in epoch 2
    mixed, _ = labelled_task(tmp_path, tmp_path / "labels", corpora={"a": "a", "b": "b"})
    mixed.load_dataset("train", data_selector=None)
    dataset = mixed.dataset("train")
    assert all(same_codes(dataset, corpus << 40 | row, name, row) for corpus, name, row in [(0, "a", 1), (1, "b", 2)])
    codes = dataset.collater([dataset[index] for index in (0, 1 << 40)])["net_input"]["codes"]
    assert codes.shape[0] == 2 and (codes[0] != codes[1]).any()
