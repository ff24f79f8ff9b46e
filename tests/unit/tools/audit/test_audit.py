"""The audit on two planted sounds: measures that can be known, layers by hand, and its table and picture."""

import json
import re

import pytest
import torch

from fairseq_birq.errors import UserError
from fairseq_birq.measures.alignment import read_alignment
from fairseq_birq.measures.frames import collect, phones_of
from fairseq_birq.measures.label_quality import code_measures, phone_measures
from fairseq_birq.objective.quantizer import RandomProjectionQuantizer
from fairseq_birq.tools.audit import tables
from fairseq_birq.tools.audit.audit import RAW_NORMS, audit
from tests.fixtures.audio import truncate
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_manifest, write_two_sounds
from tests.fixtures.pictures import looks_drawn

SMALL = ["model.quantizer.codebook_size=16", "model.quantizer.codebook_dim=4"]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return write_two_sounds(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def found(sounds):
    return audit(sounds / "train.tsv", sounds / "train.phn", settings=SMALL, seeds=(1, 2))


def test_two_planted_sounds_are_told_apart_and_shuffled_ones_are_not(found):
    assert [candidate.place for candidate in found.candidates] == list(RAW_NORMS)
    assert found.phone_share == 1.0 and found.utterances == 6 and found.minutes == pytest.approx(6 * 2.4 / 60)
    for measures in (measures for by_seed in found.measures[1:] for measures in by_seed.values()):
        assert measures["pnmi"] > 0.6 > 0.3 > measures["pnmi_shuffled"]
        assert measures["phone_purity"] > 0.85 and measures["phone_purity_shuffled"] < 0.75
        assert measures["used_codes"] + measures["dead_codes"] == 16


def test_codes_of_the_raw_input_are_those_of_training(sounds, found, tmp_path):
    model = write_birq_checkpoint(tmp_path / "c.pt").eval()  # 16 codes, 4 dimensions, seed 1, utterance+frame
    codes = collect(model, sounds / "train.tsv", ["raw_input"])[0]["raw_input"]
    histogram = torch.bincount(codes[:, 0], minlength=16)
    assert torch.equal(found.histograms[RAW_NORMS.index("utterance+frame")][0], histogram)


def test_a_layer_is_measured_as_by_hand(sounds, tmp_path):
    model = write_birq_checkpoint(tmp_path / "c.pt").eval()
    got = audit(sounds / "train.tsv", sounds / "train.phn", checkpoint=tmp_path / "c.pt", layers=[2], seeds=[3])
    hidden = collect(model, sounds / "train.tsv", layers=[2])[1][2]
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    codes = RandomProjectionQuantizer(16, 16, 4, seed=[3, 2]).nearest(hidden)
    phones = phones_of(model.speech_encoder.frontend, sounds / "train.tsv", read_alignment(sounds / "train.phn"), {})
    (index,) = [i for i, candidate in enumerate(got.candidates) if candidate.series == "standardize"]
    is_first = torch.arange(len(codes)) % (len(codes) // 6) == 0
    expected = {**code_measures(codes, is_first, 16, 25.0), **phone_measures(codes, phones, 16, 3)}
    assert got.measures[index][3] == pytest.approx(expected, abs=0.02)
    assert [candidate.place for candidate in got.candidates] == ["layer 2"] * 4


def test_without_an_alignment_perplexity_decides(sounds):
    got = audit(sounds / "train.tsv", settings=SMALL, seeds=(1, 2))
    config, reason = tables.recommendation(got)
    rows = [(candidate.place, *row) for candidate, found in zip(got.candidates, got.measures) for row in found.items()]
    perplexities = {(place, seed): measures["perplexity"] for place, seed, measures in rows}
    norm, seed = re.fullmatch(r"model.targets.raw_input.quantizer_norm=(\S+) model.quantizer.seed=(\d)", config).groups()
    assert perplexities[norm, int(seed)] == max(perplexities[norm, seed] for seed in (1, 2)) and "perplexity" in reason
    assert "PNMI" not in "\n".join(tables.as_markdown(got))


def test_the_report_has_a_row_per_candidate_numbers_and_a_picture(found, tmp_path):
    lines = tables.write(found, tmp_path / "new")
    assert (tmp_path / "new" / "audit.md").read_text() == "\n".join(lines) + "\n"
    rows = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert len(rows) == 1 + len(RAW_NORMS) and len({row.count("|") for row in rows}) == 1
    stored = json.loads((tmp_path / "new" / "audit.json").read_text())
    assert stored["candidates"][1]["seeds"]["2"] == found.measures[1][2]
    assert stored["recommended"] in lines[-1] and looks_drawn(tmp_path / "new" / "audit.png", 20000)
    tables.draw(found, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "new" / "audit.png").read_bytes()


def test_bad_audio_is_counted(tmp_path, caplog):
    write_manifest(tmp_path, seconds=[1.0] * 5)
    truncate(tmp_path / "train" / "0001.flac")
    got = audit(tmp_path / "train.tsv", settings=SMALL, seeds=[1])
    assert (got.utterances, got.bad_audio) == (4, 1) and "0001.flac" in caplog.text
    assert "4 utterances, and 1 that could not be read." in tables.as_markdown(got)[0]


def test_minutes_bound_what_is_heard(sounds):
    got = audit(sounds / "train.tsv", settings=SMALL, seeds=[1], minutes=2 * 2.4 / 60)
    assert got.utterances == 2 and got.minutes == pytest.approx(2 * 2.4 / 60)


MISTAKES = [
    (dict(layers=[1]), "--layers needs --checkpoint"),
    (dict(settings=["model.targets.use=[x]"]), "settings here are model.quantizer"),
    (dict(settings=["model.quantizer.size=3"]), "model.quantizer.size=3"),
    (dict(settings=["model.quantizer.codebook_size=many"]), "codebook_size=many"),
]


@pytest.mark.parametrize("options, said", MISTAKES)
def test_mistakes_are_user_errors(sounds, options, said):
    with pytest.raises(UserError, match=said):
        audit(sounds / "train.tsv", **options)


def test_a_layer_that_is_not_there_and_silence_are_user_errors(sounds, tmp_path):
    write_birq_checkpoint(tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"--layers must be from 1 to 2.*\[7\]"):
        audit(sounds / "train.tsv", checkpoint=tmp_path / "c.pt", layers=[1, 7])
    (tmp_path / "silent.phn").write_text("utt_index\tstart_s\tend_s\tphone\n0\t0\t1\tSIL\n")
    with pytest.raises(UserError, match="no frame carries a phone"):
        audit(sounds / "train.tsv", tmp_path / "silent.phn", settings=SMALL, seeds=[1])
