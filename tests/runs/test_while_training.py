"""The probe during pre-training: it hears planted phones, and training is bit for bit what it is without it."""

import json
import logging

import pytest
import torch
import yaml
from fairseq.dataclass.configs import FairseqConfig
from fairseq_cli.train import main
from omegaconf import OmegaConf

from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.errors import UserError
from fairseq_birq.tools.probes.while_training import TrainingProbe
from tests.fixtures.audio import tone, write_audio
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_manifest
from tests.fixtures.runs import assert_same

HEADER = "utt_index\tpath\tstart_s\tend_s\tphone\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Noise (phone n) after a loud tone (phone t) in every utterance."""
    folder = tmp_path_factory.mktemp("corpus")
    seconds = [1.0 + 0.1 * row for row in range(8)]
    write_manifest(folder, "train", seconds=seconds)
    write_manifest(folder, "valid", seconds=seconds)
    lines = [HEADER]
    for row, duration in enumerate(seconds):
        wave = tone(duration, seed=row)
        noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(row)).numpy()
        wave[len(wave) // 2 :] = 0.05 * noise[len(wave) // 2 :]
        write_audio(folder / "valid" / f"{row:04d}.flac", wave)
        lines += [f"{row}\tx\t0.0\t{duration / 2}\tt\n", f"{row}\tx\t{duration / 2}\t{duration}\tn\n"]
    (folder / "valid.phn").write_text("".join(lines))
    return folder


def train(repository, corpus, save_dir, max_update, **task):
    """The debug recipe in this process, with dropout; what its last checkpoint holds."""
    recipe = yaml.safe_load((repository / "examples" / "best_rq" / "debug.yaml").read_text())
    changes = {
        "common": {"user_dir": None, "cpu": True, "log_format": "json", "log_interval": 1},
        "checkpoint": {"save_dir": str(save_dir)},
        "task": {"data": str(corpus), **task},
        "dataset": {"train_subset": "train", "valid_subset": "valid", "validate_interval_updates": 1},
        "optimization": {"max_update": max_update},
        "model": {"encoder": {"dropout": 0.3, "attention_dropout": 0.3, "layer_dropout": 0.3}},
    }
    main(OmegaConf.merge(OmegaConf.structured(FairseqConfig), recipe, changes))
    return torch.load(save_dir / "checkpoint_last.pt", map_location="cpu", weights_only=True)


def validations(caplog):
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "valid"]


def test_training_with_and_without_the_probe_is_bit_for_bit_the_same(repository, corpus, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    calls, probe = [], TrainingProbe.__call__
    monkeypatch.setattr(TrainingProbe, "__call__", lambda self, encoder: (calls.append(1), probe(self, encoder))[1])
    with_probe = {"probe_every": 2, "probe_alignment": str(corpus / "valid.phn"), "probe_utterances": 8}
    probed = train(repository, corpus, tmp_path / "probed", 4, **with_probe)
    logged = validations(caplog)
    plain = train(repository, corpus, tmp_path / "plain", 4)
    for part in ("model", "last_optimizer_state"):
        assert_same(probed[part], plain[part])
    assert len(logged) >= 4 and all(0 < float(entry["valid_probe_phone"]) <= 100 for entry in logged)
    layers = [entry[f"valid_probe_phone_layer{layer}"] for entry in logged[:1] for layer in range(3)]
    assert max(map(float, layers)) == float(logged[0]["valid_probe_phone"])
    times = [entry["valid_probe_seconds"] for entry in logged]
    assert len(calls) == 2 and times[0] == times[1] and times[2] == times[3]  # at updates 1 and 3; kept in between
    assert not any("probe" in key for entry in validations(caplog)[len(logged) :] for key in entry)


@pytest.fixture
def encoder(tmp_path):
    write_birq_checkpoint(tmp_path / "c.pt", dropout=0.5)
    return load_encoder(tmp_path / "c.pt")


def test_the_probe_hears_phones_and_leaves_no_trace(corpus, encoder):
    probe = TrainingProbe(corpus / "valid.tsv", corpus / "valid.phn", utterances=8, iterations=30)
    encoder.train()
    encoder.encoder.layers[1].eval()  # a mode of its own
    modes = [module.training for module in encoder.modules()]
    weights = {key: value.clone() for key, value in encoder.state_dict().items()}
    generator = torch.get_rng_state()
    found, again = probe(encoder), probe(encoder)
    assert torch.equal(torch.get_rng_state(), generator) and modes == [module.training for module in encoder.modules()]
    assert all(torch.equal(value, weights[key]) for key, value in encoder.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in encoder.parameters())
    assert set(found) == {"phone", "phone_layer0", "phone_layer1", "phone_layer2", "seconds"}
    assert found["phone"] > 90 and {**again, "seconds": 0} == {**found, "seconds": 0}


def test_rows_are_spread_and_every_fourth_tests(corpus):
    probe = TrainingProbe(corpus / "valid.tsv", corpus / "valid.phn", utterances=4)
    assert probe.rows == [0, 2, 4, 6]
    assert TrainingProbe(corpus / "valid.tsv", corpus / "valid.phn", utterances=100).rows == list(range(8))


def test_shuffled_phones_cannot_be_heard(corpus, encoder, tmp_path):
    lines = (corpus / "valid.phn").read_text().replace("\tn\n", "\t?\n").splitlines()[1:]
    generator = torch.Generator().manual_seed(0)
    drawn = [[line.rsplit("\t", 1)[0], "ab"[int(torch.randint(2, (1,), generator=generator))]] for line in lines]
    (tmp_path / "valid.phn").write_text(HEADER + "".join("\t".join(fields) + "\n" for fields in drawn))
    assert TrainingProbe(corpus / "valid.tsv", tmp_path / "valid.phn", 8)(encoder)["phone"] < 85


@pytest.mark.parametrize(
    "utterances, text, part",
    [(3, None, "`task.probe_utterances` must be at least 4"), (8, HEADER + "0\tx\t0\t1\ta\n", r"no phones for rows \[3, 7\]")],
)
def test_settings_that_cannot_work_are_named_before_training(corpus, tmp_path, utterances, text, part):
    alignment = corpus / "valid.phn"
    if text:
        alignment = tmp_path / "valid.phn"
        alignment.write_text(text)
    with pytest.raises(UserError, match=part):
        TrainingProbe(corpus / "valid.tsv", alignment, utterances)


@pytest.mark.parametrize("alignment, part", [(None, "must name an alignment"), ("/absent/dev.phn", "no such file")])
def test_a_missing_alignment_stops_the_run(repository, corpus, tmp_path, caplog, alignment, part):
    with pytest.raises(SystemExit):
        train(repository, corpus, tmp_path, 1, probe_every=1, probe_alignment=alignment)
    assert part in caplog.text
    assert not (tmp_path / "checkpoint_last.pt").exists()
