"""The same weights, speech and counters give the same numbers as fairseq's trainer, which wrote numbers.npz."""

import numpy as np
import pytest
from fairseq2.recipe.config import (
    CommonSection,
    LRSchedulerSection,
    MixedPrecisionConfig,
    ModelSection,
    OptimizerSection,
    PolynomialDecayLRConfig,
    RegimeSection,
    TrainerSection,
)
from fairseq2.recipe.run import run

from fairseq_birq.config import BirqCriterionConfig, StageScheduleConfig
from fairseq_birq.fairseq2.optim import BirqAdamWConfig
from fairseq_birq.fairseq2.pretrain.config import DatasetSection, PretrainConfig, TaskSection
from fairseq_birq.fairseq2.pretrain.recipe import PretrainRecipe
from tests.fixtures.same_numbers import cases


def schedule(method):
    if method != "latent_rq":
        return LRSchedulerSection(name="polynomial_decay", config=PolynomialDecayLRConfig(num_warmup_steps=cases.WARMUP))
    stages = StageScheduleConfig(target_updates=cases.STAGES, warmup_updates=cases.WARMUP, total_num_update=cases.UPDATES)
    return LRSchedulerSection(name="birq_stages", config=stages)


def config_of(method, data):
    weights = dict(weights=cases.WEIGHTS.get(method, {}), start_updates=cases.START_UPDATES.get(method, {}))
    return PretrainConfig(
        model=ModelSection(family="birq", config_overrides=cases.model_settings(method)),
        task=TaskSection(data=str(data), max_seconds=cases.MAX_SECONDS, frame_labels=f"{data}/labels"),
        dataset=DatasetSection(valid_subset=None, max_tokens=cases.MAX_TOKENS, num_workers=0),
        criterion=BirqCriterionConfig(**weights),
        trainer=TrainerSection(mixed_precision=MixedPrecisionConfig(mode="off"), max_grad_norm=cases.CLIP),
        optimizer=OptimizerSection(name="birq_adamw", config=BirqAdamWConfig(**cases.OPTIMIZER)),
        lr_scheduler=schedule(method),
        regime=RegimeSection(num_steps=cases.UPDATES),
        common=CommonSection(seed=1, no_sweep_dir=True),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cases.write_data(tmp_path_factory.mktemp("same_numbers"))


@pytest.mark.parametrize("method", cases.TARGETS)
def test_ten_updates_are_those_of_fairseq(method, data, tmp_path):
    wanted = {key.split("/")[1]: value for key, value in np.load(cases.NUMBERS).items() if key.startswith(f"{method}/")}
    with cases.written_down() as found:
        run(PretrainRecipe(), config_of(method, data), tmp_path, no_rich=True, no_progress=True)
    assert len(found["losses"]) == cases.UPDATES and np.abs(found["gradient"]).max() > 0.01
    np.testing.assert_allclose(found["losses"][: cases.GRADIENT_OF], wanted["losses"][: cases.GRADIENT_OF], rtol=1e-6)
    np.testing.assert_allclose(found["gradient"], wanted["gradient"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["losses"], wanted["losses"], rtol=1e-4)
    np.testing.assert_allclose(found["weights"], wanted["weights"], rtol=0, atol=1e-4)
