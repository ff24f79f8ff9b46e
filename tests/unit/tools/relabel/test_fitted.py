"""Labels by fitted codes: the contract of a source, shards and other splits, and what cannot be."""

import numpy as np
import pytest
import torch

from fairseq_birq.checkpoint import load_encoder
from fairseq_birq.config import BirqConfig
from fairseq_birq.data.dataset import AudioDataset
from fairseq_birq.data.frame_labels import LabelStore, read_info
from fairseq_birq.data.manifest import read_manifest
from fairseq_birq.errors import UserError
from fairseq_birq.measures.frames import all_frames
from fairseq_birq.model import BirqModel
from fairseq_birq.settings import from_dict
from fairseq_birq.targets import build_targets
from fairseq_birq.tools.relabel.fitted import AudioAlone, FittedCodes, FittedTargets, Held, build_vectors
from fairseq_birq.tools.relabel.labelling import make
from tests.fixtures.checkpoints import write_birq_checkpoint
from tests.fixtures.manifests import write_manifest

pytest.importorskip("sklearn")
SECONDS = (1.0, 1.53, 0.04, 0.7, 2.0)
KINDS = {
    "mfcc": FittedCodes.of("mfcc", codebook_size=7),
    "logmel": FittedCodes.of("logmel", codebook_size=7, projection="random", num_codebooks=2, codebook_dim=4),
    "layer": FittedCodes.of("layer", layer=2, codebook_size=7),
    "layer, standardised": FittedCodes.of("layer", layer=1, normalisation="standardize", codebook_size=7, refine=1),
    "layer 0, whitened": FittedCodes.of("layer", layer=0, projection="whitened_pca", codebook="random", codebook_size=7),
}


@pytest.fixture
def corpus(tmp_path):
    write_birq_checkpoint(tmp_path / "birq.pt")
    write_manifest(tmp_path, "valid", seconds=SECONDS[:2])
    return write_manifest(tmp_path, seconds=SECONDS)


def batch(corpus, rows):
    dataset = AudioDataset(read_manifest(corpus / "train.tsv"))
    return dataset.collater([dataset[row] for row in rows])["net_input"]


def settled(corpus, codes):
    """A source that was fitted, and the encoder before it."""
    encoder = load_encoder(corpus / "birq.pt")
    source = FittedTargets(codes, build_vectors(codes, BirqConfig(), encoder)).eval()
    source.settle(lambda: (all_frames(encoder, batch(corpus, [row]), 0) for row in range(len(SECONDS))))
    return source, encoder


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_of_an_utterance_alone_and_are_stored(corpus, kind):
    codes = KINDS[kind]
    source, encoder = settled(corpus, codes)
    together = source(all_frames(encoder, batch(corpus, range(5)), 0))
    alone = [source(all_frames(encoder, batch(corpus, [row]), 0)) for row in range(5)]
    assert torch.equal(together, torch.cat(alone)) and together.dtype == torch.int64
    assert together.shape[1] == codes.num_codebooks and 0 <= together.min() < together.max() < 7
    fresh = FittedTargets(codes, build_vectors(codes, BirqConfig(), load_encoder(corpus / "birq.pt"))).eval()
    assert fresh.fingerprint() != source.fingerprint()
    for part in ("normalisations", "quantizers"):
        getattr(fresh, part).load_state_dict(getattr(source, part).state_dict())
    assert fresh.fingerprint() == source.fingerprint()
    assert torch.equal(fresh(all_frames(encoder, batch(corpus, [4]), 0)), alone[4])


@pytest.mark.parametrize("kind", KINDS)
def test_shards_and_other_splits_have_the_same_codes(corpus, tmp_path, kind):
    checkpoint = corpus / "birq.pt" if KINDS[kind].features == "layer" else None
    make(checkpoint, corpus / "train.tsv", tmp_path / "whole", KINDS[kind])
    for shard in ("1/2", "0/2"):
        make(checkpoint, corpus / "train.tsv", tmp_path / "shards", KINDS[kind], shard=shard)
    make(checkpoint, corpus / "valid.tsv", tmp_path / "valid", like=tmp_path / "whole")
    whole, shards, valid = (LabelStore(tmp_path / name) for name in ("whole", "shards", "valid"))
    assert whole.info.codes_fingerprint == shards.info.codes_fingerprint == valid.info.codes_fingerprint
    for row in range(5):
        assert np.array_equal(whole.codes(row, 0, 99), shards.codes(row, 0, 99))
    for row in range(2):
        assert np.array_equal(whole.codes(row, 0, 99), valid.codes(row, 0, 99))
    with pytest.raises(UserError, match="is of other labels; what differs is seed"):
        make(checkpoint, corpus / "train.tsv", tmp_path / "whole", FittedCodes(**{**vars(KINDS[kind]), "seed": 6}))


def test_random_codes_of_log_mel_are_best_rqs(corpus, tmp_path):
    codes = FittedCodes.of("logmel", codebook="random", codebook_size=300, num_codebooks=2, seed=9)
    make(None, corpus / "train.tsv", tmp_path / "labels", codes)
    cfg = from_dict(BirqConfig, {"quantizer": {"codebook_size": 300, "num_codebooks": 2, "seed": 9}})
    encoder = BirqModel.from_checkpoint(corpus / "birq.pt").speech_encoder
    source = build_targets(cfg, encoder.frontend)["raw_input"]
    for row in range(5):
        expected = source(all_frames(encoder, batch(corpus, [row]), 0)).numpy()
        assert np.array_equal(LabelStore(tmp_path / "labels").codes(row, 0, 99), expected)


def test_the_stored_command_makes_the_same_codes(corpus, tmp_path):
    from fairseq_birq.cli.labels import main

    make(None, corpus / "train.tsv", tmp_path / "labels", KINDS["logmel"], shard="0/2")
    command = read_info(tmp_path / "labels").command.split()
    assert command[:2] == ["birq-labels", str(corpus / "train.tsv")]
    assert main([*command[1:], "--shard", "1/2"]) == 0
    LabelStore(tmp_path / "labels")


def test_frames_are_held_where_they_fit_and_read_again_where_not():
    reads = []

    def frames():
        reads.append(1)
        return iter([torch.ones(2, 3), torch.zeros(1, 3)])

    for most_bytes, wanted in ((36, 1), (35, 3)):
        reads.clear()
        held = Held(frames, most_bytes)
        assert [len(list(held())) for _ in range(3)] == [2, 2, 2] and len(reads) == wanted


@pytest.mark.parametrize(
    "settings, part",
    [
        (dict(features="x"), "features are 'x'"),
        (dict(features="mfcc", normalisation="whiten"), "normalisation of mfcc is 'whiten'"),
        (dict(features="layer", layer=1, codebook="random", projection="none"), "needs a projection"),
        (dict(features="mfcc", codebook_dim=4), "`codebook_dim` is that of a projection"),
        (dict(features="mfcc", fit_utterances=0), "`fit_utterances` must be > 0"),
    ],
)
def test_settings_that_cannot_be(settings, part):
    with pytest.raises(UserError, match=part):
        FittedCodes.of(**settings)


@pytest.mark.parametrize(
    "codes, part",
    [
        (FittedCodes.of("layer", layer=3), "--layer must be from 1 to 2"),
        (FittedCodes.of("mfcc", codebook_size=500), "frames are too few for 500 clusters"),
        (FittedCodes.of("mfcc", projection="pca", codebook="random", codebook_dim=40), "more than the 39 dimensions"),
    ],
)
def test_what_cannot_be_made_leaves_no_labels(corpus, tmp_path, codes, part):
    with pytest.raises(UserError, match=part):
        make(corpus / "birq.pt", corpus / "train.tsv", tmp_path / "labels", codes)
    assert not list(tmp_path.glob("labels/*"))


def test_without_a_checkpoint_there_is_audio_alone():
    frontend = torch.nn.Linear(1, 1)
    assert AudioAlone(frontend).frontend is frontend and not any(p.requires_grad for p in AudioAlone(frontend).parameters())
