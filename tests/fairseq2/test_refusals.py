"""What docs/fairseq2.md says cannot be is refused before training, in a sentence."""

from types import SimpleNamespace

import pytest

from fairseq_birq.config import BirqConfig
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2.model import create_model
from fairseq_birq.fairseq2.pretrain.recipe import refuse_what_cannot_be
from fairseq_birq.settings import from_dict
from tests.fixtures.fairseq2_runs import SMALL, TARGETS, config_of


def gangs(dp=1, tp=1):
    return SimpleNamespace(dp=SimpleNamespace(size=dp), tp=SimpleNamespace(size=tp))


def check(method, gangs, sharded=False, **criterion):
    model = create_model(from_dict(BirqConfig, {"encoder": SMALL, "quantizer": {"num_codebooks": 2}, "targets": TARGETS[method]}))
    trainer = {"data_parallelism": "fsdp" if sharded else "ddp"}
    refuse_what_cannot_be(config_of(method, "/data", 4, trainer=trainer, criterion=criterion), gangs, model)


@pytest.mark.parametrize("method", ["latent_rq", "averaging"])
def test_fsdp_does_not_shard_copies_of_the_encoder(method):
    with pytest.raises(UserError, match="cannot shard the encoder that targets"):
        check(method, gangs(dp=2), sharded=True)
    check(method, gangs(dp=2))
    check(method, gangs(), sharded=True)  # one process shards nothing


def test_fsdp_measures_no_gradient_norms():
    check("birq", gangs(dp=2), sharded=True)
    with pytest.raises(UserError, match="`criterion.log_grad_every` needs whole weights"):
        check("birq", gangs(dp=2), sharded=True, log_grad_every=2)


def test_tensor_parallelism_is_refused():
    with pytest.raises(UserError, match="`gang.tensor_parallel_size` must be 1"):
        check("best_rq", gangs(tp=2))
