"""Making labels: which codes they are, in which pieces, and what an interruption leaves."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from torch.nn import functional as F

from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.config import BirqConfig, BirqCtcConfig
from fairseq_birq.data import frame_labels
from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.frame_labels import LabelStore, read_info
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.measures.frames import collect
from fairseq_birq.model import BirqModel
from fairseq_birq.tools.relabel.label_sources import Labeller, LayerCodes, SourceCodes
from fairseq_birq.tools.relabel.labelling import make
from tests.fixtures.audio import truncate, waveform_batch
from tests.fixtures.checkpoints import tiny_config, write_birq_checkpoint
from tests.fixtures.manifests import write_manifest

SECONDS = (1.0, 1.53, 0.04, 0.7, 2.0)
RAW = SourceCodes("raw_input")
SECOND = LayerCodes(2, num_codebooks=2, codebook_size=32, codebook_dim=4)


@pytest.fixture
def corpus(tmp_path):
    torch.manual_seed(0)
    write_manifest(tmp_path, "valid", seconds=SECONDS[:2])
    return write_manifest(tmp_path, seconds=SECONDS)


@pytest.fixture
def checkpoint(tmp_path):
    write_birq_checkpoint(tmp_path / "birq.pt")
    return tmp_path / "birq.pt"


def labels(store):
    return [store.codes(row, 0, 1 << 30) for row in range(store.info.num_utterances)]


def made(checkpoint, manifest, out, codes=None, **options):
    make(checkpoint, manifest, out, codes, **options)
    return labels(LabelStore(out))


def same(first, second):
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second))


def test_labels_of_the_raw_input_are_the_codes_of_training(tmp_path, corpus, checkpoint):
    """Whose batches are padded."""
    found = made(checkpoint, corpus / "train.tsv", tmp_path / "out", RAW)
    model = BirqModel.from_checkpoint(checkpoint)
    expected, _ = collect(model, corpus / "train.tsv", ["raw_input"])
    assert [len(codes) for codes in found] == [24, 37, 0, 17, 49]
    assert np.array_equal(np.concatenate(found), expected["raw_input"].numpy())
    info = read_info(tmp_path / "out")
    assert (info.num_codebooks, info.codebook_size, info.source) == (1, 16, {"name": "raw_input"})


def codes_by_the_equations(settings, hidden, quantizer):
    """Standardise over all frames, layer norm, project, nearest code, in float64."""
    frames = torch.cat(hidden).double()
    if settings.normalisation == "whiten":
        values, vectors = torch.linalg.eigh(torch.cov(frames.t(), correction=0))
        z = (frames - frames.mean(0)) @ (vectors * (values + 1e-5).rsqrt()) @ vectors.t()
    elif settings.normalisation == "layer":
        z = F.layer_norm(frames, frames.shape[1:])
    else:
        z = (frames - frames.mean(0)) * (frames.var(0, unbiased=False) + 1e-5).rsqrt()
        z = F.layer_norm(z, z.shape[1:]) if settings.normalisation.endswith("layer") else z
    parts = zip(quantizer["quantizer.projection"].double(), quantizer["quantizer.codebook"].double())
    return torch.stack([torch.cdist(F.normalize(z @ A, dim=-1), C).argmin(-1) for A, C in parts], dim=1)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("normalisation", ["layer", "standardize", "standardize+layer", "whiten"])
def test_labels_of_a_layer_are_its_nearest_codes(tmp_path, corpus, checkpoint, layer, normalisation):
    settings = replace(SECOND, layer=layer, normalisation=normalisation)
    found = made(checkpoint, corpus / "train.tsv", tmp_path / "out", settings)
    encoder, hidden = load_encoder(checkpoint), []
    for row in range(len(SECONDS)):
        wave = torch.from_numpy(soundfile.read(str(corpus / "train" / f"{row:04d}.flac"), dtype="float32")[0])
        with torch.no_grad():
            encoded = encoder(wave[None])
        hidden.append([encoded.subsampled, *encoded.layers][layer][0])
    quantizer = torch.load(tmp_path / "out" / "quantizer.pt", weights_only=True)["state"]
    expected = codes_by_the_equations(settings, hidden, quantizer)
    assert (torch.from_numpy(np.concatenate(found)) != expected).sum() <= 1  # a tie may fall otherwise
    assert len(set(expected[:, 0].tolist())) > (1 if normalisation == "layer" else 5)
    assert read_info(tmp_path / "out").source["layer"] == layer


@pytest.mark.parametrize("codes", [RAW, SECOND])
def test_shards_together_are_the_whole(tmp_path, corpus, checkpoint, codes):
    whole = made(checkpoint, corpus / "train.tsv", tmp_path / "whole", codes)
    for shard in ("1/2", "0/2"):
        make(checkpoint, corpus / "train.tsv", tmp_path / "parts", codes, shard=shard)
    assert same(labels(LabelStore(tmp_path / "parts")), whole)
    joined = [np.load(tmp_path / "parts" / f"codes-{shard}-of-2.npy") for shard in (0, 1)]
    assert np.array_equal(np.concatenate(joined), np.load(tmp_path / "whole" / "codes-0-of-1.npy"))
    assert read_info(tmp_path / "parts").fingerprint == read_info(tmp_path / "whole").fingerprint
    assert same(made(checkpoint, corpus / "train.tsv", tmp_path / "workers", codes, workers=1), whole)


def test_a_whole_shard_is_not_made_again_and_half_a_one_is(tmp_path, corpus, checkpoint, monkeypatch):
    out, calls, codes_of = tmp_path / "out", [], Labeller.codes
    monkeypatch.setattr(Labeller, "codes", lambda self, net_input: calls.append(1) or codes_of(self, net_input))
    first = made(checkpoint, corpus / "train.tsv", out, RAW)
    once = len(calls)
    assert make(checkpoint, corpus / "train.tsv", out, RAW) == [f"{out}: shard 0/1 is there already"]
    assert once == len(SECONDS) + 1 and len(calls) == once + 1  # one call tells the number of columns
    (out / "index-0-of-1.npy").unlink()
    assert same(made(checkpoint, corpus / "train.tsv", out, RAW), first)


@pytest.mark.parametrize("where", ["statistics", "label", "write"])
def test_an_interruption_leaves_nothing_half_and_the_next_run_makes_the_same(tmp_path, corpus, checkpoint, monkeypatch, where):
    expected = made(checkpoint, corpus / "train.tsv", tmp_path / "expected", SECOND)
    read, calls, out = AudioDataset._read, [], tmp_path / "out"

    def interrupted_read(*args):
        calls.append(1)
        if len(calls) == {"statistics": 3, "label": len(SECONDS) + 3}.get(where):
            raise KeyboardInterrupt
        return read(*args)

    def interrupted_save(file, array):
        file.write(b"half of a file")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AudioDataset, "_read", interrupted_read)
        if where == "write":
            patch.setattr(frame_labels.np, "save", interrupted_save)
        make(checkpoint, corpus / "train.tsv", out, SECOND)
    left = {path.name for path in out.iterdir()} if out.exists() else set()
    assert left == (set() if where == "statistics" else {"labels.json", "quantizer.pt"})
    assert same(made(checkpoint, corpus / "train.tsv", out, SECOND), expected)


def test_labels_of_another_split_have_the_first_ones_statistics(tmp_path, corpus, checkpoint):
    train, valid = tmp_path / "labels" / "train", tmp_path / "labels" / "valid"
    whole = made(checkpoint, corpus / "train.tsv", train, SECOND)
    alike = made(checkpoint, corpus / "valid.tsv", valid, like=train)
    assert same(alike, whole[:2])  # the same recordings
    assert read_info(valid).codes_fingerprint == read_info(train).codes_fingerprint
    alone = made(checkpoint, corpus / "valid.tsv", tmp_path / "alone", SECOND)
    assert not same(alone, whole[:2])
    assert read_info(tmp_path / "alone").fingerprint != read_info(train).fingerprint
    raw = made(checkpoint, corpus / "train.tsv", tmp_path / "raw", RAW)
    assert same(made(checkpoint, corpus / "valid.tsv", tmp_path / "raw_valid", like=tmp_path / "raw"), raw[:2])


def test_like_needs_the_checkpoint_of_the_labels(tmp_path, corpus, checkpoint):
    make(checkpoint, corpus / "train.tsv", tmp_path / "labels", SECOND)
    torch.manual_seed(1)
    write_birq_checkpoint(tmp_path / "other.pt")
    with pytest.raises(UserError, match="were made with another checkpoint"):
        make(tmp_path / "other.pt", corpus / "valid.tsv", tmp_path / "out", like=tmp_path / "labels")
    with pytest.raises(UserError, match="labels.json: no such file"):
        make(checkpoint, corpus / "valid.tsv", tmp_path / "out", like=tmp_path / "absent")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change, part",
    [
        (dict(codes=replace(SECOND, layer=1)), "what differs is layer[.]"),
        (dict(codes=replace(SECOND, seed=9, codebook_size=8)), "what differs is codebook_size, seed[.]"),
        (dict(checkpoint="other.pt"), "what differs is checkpoint_sha256[.]"),
        (dict(manifest="valid.tsv"), "what differs is manifest_sha256, num_utterances[.]"),
        (dict(shard="0/3"), "what differs is num_shards[.]"),
        (dict(codes=RAW), "what differs is num_codebooks, codebook_size, source, fingerprint[.]"),
    ],
)
def test_a_folder_with_other_labels_is_refused_and_stays(tmp_path, corpus, checkpoint, change, part):
    given = dict(checkpoint="birq.pt", manifest="train.tsv", codes=SECOND, shard="0/2")
    torch.manual_seed(1)
    write_birq_checkpoint(tmp_path / "other.pt")

    def run(checkpoint, manifest, **options):
        make(tmp_path / checkpoint, corpus / manifest, tmp_path / "out", **options)

    run(**given)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UserError, match=part):
        run(**{**given, **change})
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    run(**{**given, "shard": "1/2"})
    LabelStore(tmp_path / "out")


@pytest.mark.parametrize("at_most, rows", [(1, [0]), (2, [0, 4]), (3, [0, 2, 4]), (500, [0, 1, 2, 3, 4])])
def test_so_many_utterances_evenly_spread_set_the_statistics(tmp_path, corpus, checkpoint, at_most, rows):
    make(checkpoint, corpus / "train.tsv", tmp_path / "out", replace(SECOND, statistics_utterances=at_most))
    encoder, hidden = load_encoder(checkpoint), []
    for row in rows:
        wave = torch.from_numpy(soundfile.read(str(corpus / "train" / f"{row:04d}.flac"), dtype="float32")[0])
        with torch.no_grad():
            hidden.append(encoder(wave[None]).layers[1][0])
    state = torch.load(tmp_path / "out" / "quantizer.pt", weights_only=True)["state"]
    variance, mean = torch.var_mean(torch.cat(hidden), dim=0, unbiased=False)
    assert torch.allclose(state["normalisation.mean"], mean, atol=1e-5)
    assert torch.allclose(state["normalisation.second"], variance, rtol=1e-4, atol=1e-6)


def test_a_fine_tuned_checkpoint_has_layers_and_no_sources(tmp_path, corpus):
    from fairseq_birq.doors.birq_ctc import FairseqBirqCtcModel as BirqCtcModel
    from tests.fixtures.models import TASK

    cfg = tiny_config(BirqCtcConfig)
    model = BirqCtcModel.build_model(copy.deepcopy(cfg), TASK)
    settings = {**OmegaConf.to_container(cfg, enum_to_str=True), "_name": "birq_ctc"}
    torch.save({"cfg": {"model": settings}, "model": model.state_dict()}, str(tmp_path / "ctc.pt"))
    found = made(tmp_path / "ctc.pt", corpus / "valid.tsv", tmp_path / "out", SECOND)
    assert [codes.shape for codes in found] == [(24, 2), (37, 2)]
    with pytest.raises(UserError, match="birq_ctc.*has no pre-training targets"):
        make(tmp_path / "ctc.pt", corpus / "valid.tsv", tmp_path / "raw", RAW)


def own_layer_checkpoint(path, trained):
    targets = {"use": ["raw_input", "own_layer"], "own_layer": {"layers": [1, 2]}}
    cfg = tiny_config(BirqConfig, quantizer={"codebook_size": 16, "codebook_dim": 4, "num_codebooks": 2}, targets=targets)
    torch.manual_seed(0)
    model = BirqModel.build_model(cfg)
    if trained:
        model.train()(*waveform_batch(1.0, 2.0))
    settings = {**OmegaConf.to_container(cfg, enum_to_str=True), "_name": "birq"}
    torch.save({"cfg": {"model": settings}, "model": model.state_dict()}, str(path))
    return model.eval()


def test_labels_of_a_source_with_hidden_states_are_its_noise_free_codes(tmp_path, corpus):
    model = own_layer_checkpoint(tmp_path / "own.pt", trained=True)
    found = np.concatenate(made(tmp_path / "own.pt", corpus / "train.tsv", tmp_path / "out", SourceCodes("own_layer")))
    _, hidden = collect(model, corpus / "train.tsv", layers=[1, 2])
    source = model.targets["own_layer"]
    parts = zip(source.quantizers, source.normalisations, (1, 2))
    expected = torch.cat([quantizer.nearest(norm(hidden[layer])) for quantizer, norm, layer in parts], dim=1)
    assert found.shape == expected.shape == (127, 4)
    assert (torch.from_numpy(found) != expected).sum() <= 2  # ties; training pads
    assert read_info(tmp_path / "out").num_codebooks == 4


def test_a_source_that_never_saw_a_batch_is_refused(tmp_path, corpus):
    own_layer_checkpoint(tmp_path / "own.pt", trained=False)
    with pytest.raises(UserError, match="`own_layer` of checkpoint .*own.pt has no statistics"):
        make(tmp_path / "own.pt", corpus / "train.tsv", tmp_path / "out", SourceCodes("own_layer"))
    make(tmp_path / "own.pt", corpus / "train.tsv", tmp_path / "out", RAW)


@pytest.mark.parametrize(
    "codes, options, part",
    [
        (SourceCodes("own_layer"), {}, "has no target source `own_layer` to label with; it has \\['raw_input'\\]"),
        (LayerCodes(3), {}, "--layer must be from 1 to 2, or 0 .*, but is 3"),
        (LayerCodes(-1), {}, "--layer must be from 1 to 2"),
        (LayerCodes(1, codebook_size=0), {}, "quantizer.codebook_size"),
        (RAW, {"shard": "2/2"}, "--shard must be i/n.*but is 2/2"),
        (RAW, {"shard": "1"}, "--shard must be i/n.*but is 1"),
        (RAW, {"device": "gpu7"}, "device gpu7 cannot be used"),
    ],
)
def test_settings_that_cannot_be_are_user_errors_and_make_no_folder(tmp_path, corpus, checkpoint, codes, options, part):
    with pytest.raises(UserError, match=part):
        make(checkpoint, corpus / "train.tsv", tmp_path / "out", codes, **options)
    assert not (tmp_path / "out").exists()


def test_audio_too_short_for_statistics_is_a_user_error(tmp_path, checkpoint):
    write_manifest(tmp_path, seconds=[0.04, 0.03])
    with pytest.raises(UserError, match="0 frames are too few for statistics"):
        make(checkpoint, tmp_path / "train.tsv", tmp_path / "out", SECOND)


def test_bad_audio_gets_no_labels_and_training_says_so(tmp_path, corpus, checkpoint, caplog):
    broken, good = corpus / "train" / "0001.flac", (corpus / "train" / "0001.flac").read_bytes()
    truncate(broken)
    found = made(checkpoint, corpus / "train.tsv", tmp_path / "out", RAW)
    assert [len(codes) for codes in found] == [24, 0, 0, 17, 49]
    assert any("0001.flac" in message for message in caplog.messages)
    broken.write_bytes(good)
    dataset = AudioDataset(read_manifest(corpus / "train.tsv"), frame_labels=LabelStore(tmp_path / "out"))
    assert "0001.flac: has 37 frames, but 0 labels" in dataset[1]["bad"] and "bad" not in dataset[0]
    for row in (0, 1):
        truncate(corpus / "train" / f"{row:04d}.flac")
    with pytest.raises(UserError, match="2 of 5 audio files cannot be used, and bad_audio_budget allows 1"):
        make(checkpoint, corpus / "train.tsv", tmp_path / "more", RAW)
    found = made(checkpoint, corpus / "train.tsv", tmp_path / "more", RAW, bad_audio_budget=0.4)
    assert [len(codes) for codes in found] == [0, 0, 0, 17, 49]


def test_the_budget_of_bad_audio_is_of_the_shard(tmp_path, checkpoint):
    """Of eight rows four may be bad, but of a shard of four only two."""
    corpus = write_manifest(tmp_path, seconds=[0.5] * 8)
    for row in (0, 1, 2):
        truncate(corpus / "train" / f"{row:04d}.flac")
    with pytest.raises(UserError, match="bad_audio_budget allows 2"):
        make(checkpoint, corpus / "train.tsv", tmp_path / "out", RAW, shard="0/2", bad_audio_budget=0.5)
    make(checkpoint, corpus / "train.tsv", tmp_path / "out", RAW, shard="1/2", bad_audio_budget=0.5)
    make(checkpoint, corpus / "train.tsv", tmp_path / "whole", RAW, bad_audio_budget=0.5)


@pytest.mark.parametrize("name", ["snapshot", "moving_average"])
def test_labels_of_a_frozen_encoder_are_the_codes_of_its_source(tmp_path, corpus, name):
    def train(model):
        for update in (0, 1):
            model.train().set_num_updates(update)
            model(*waveform_batch(1.0, 1.5))

    targets = {"use": [name], "snapshot": {"target_updates": [1]}}
    targets[name] = {**targets.get(name, {}), "layers": [1, 2]}
    write_birq_checkpoint(tmp_path / "frozen.pt", {"quantizer": {"num_codebooks": 2}, "targets": targets}, train)
    found = made(tmp_path / "frozen.pt", corpus / "train.tsv", tmp_path / "out", SourceCodes(name))
    expected, _ = collect(BirqModel.from_checkpoint(tmp_path / "frozen.pt"), corpus / "train.tsv", [name])
    assert np.array_equal(np.concatenate(found), expected[name].numpy())
    assert len(np.unique(found[0][:, 1])) > 3
