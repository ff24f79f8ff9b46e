"""The recipe: pre-training by any of the methods in fairseq2's trainer."""

from typing import Callable

from fairseq2.recipe.base import Recipe, RecipeContext
from fairseq2.task import Task

from fairseq_birq.config import BirqCriterionConfig
from fairseq_birq.data.batching import BatchesByLength
from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2 import register
from fairseq_birq.fairseq2.model import Fairseq2BirqModel
from fairseq_birq.fairseq2.optim import StagesLR
from fairseq_birq.fairseq2.pretrain.config import PretrainConfig
from fairseq_birq.fairseq2.pretrain.units import PretrainEvalUnit, Pretraining, PretrainUnit
from fairseq_birq.fairseq2.reader import BatchReader
from fairseq_birq.settings import from_dict
from fairseq_birq.training.pretraining_data import PretrainingData, find_frame_labels, require_data_folder
from fairseq_birq.training.stages import check_same_updates


class PretrainRecipe(Recipe):
    """`python -m fairseq_birq.fairseq2.pretrain OUTPUT_DIR --config-file FILE --config task.data=FOLDER`."""

    def register(self, container) -> None:
        register(container)

    @property
    def config_kls(self):
        return PretrainConfig

    def has_static_autograd_graph(self, context: RecipeContext) -> bool:
        return False  # heads of sources that have not started get no gradient

    def setup_model(self, context: RecipeContext, model, newly_initialized: bool):
        """Raises UserError for parts that do not fit together."""
        config = context.get_config_as(PretrainConfig)
        require_data_folder(config.task)
        wanted = model.speech_encoder.frontend.sample_rate
        if config.task.sample_rate != wanted:
            raise UserError(
                f"`task.sample_rate` is {config.task.sample_rate}, but the model's frontend wants {wanted}; set it to that"
            )
        refuse_what_cannot_be(config, context.gangs, model)
        if context.gangs.dp.size > 1:
            model.share_extra_states(context.gangs.dp)
        if model.disturber is not None:
            model.disturber.open()
        return model

    def create_task(self, context: RecipeContext) -> Task:
        config, model = context.get_config_as(PretrainConfig), context.get_model_as(Fairseq2BirqModel)
        schedule = context.get_lr_scheduler()
        if isinstance(schedule, StagesLR):
            check_same_updates(model, schedule.rates.target_updates)
        criterion = from_dict(BirqCriterionConfig, config.criterion, "criterion")
        shared = Pretraining(model, context.get_data_parallel_model(), context.gangs.dp, criterion)
        data = PretrainingData(config.task, config.task.sample_rate, find_frame_labels(config.task, model.targets))
        train = _reader(context, config, data, config.dataset.train_subset, is_training=True)
        valid_units, valid_readers = [], []
        if config.dataset.valid_subset is not None:
            valid_units.append(PretrainEvalUnit(shared))
            valid_readers.append(_reader(context, config, data, config.dataset.valid_subset, is_training=False))
        unit = PretrainUnit(shared, context.get_optimizer())
        return context.create_trainer(unit, train, valid_units, valid_readers)


def refuse_what_cannot_be(config: PretrainConfig, gangs, model) -> None:
    """Raises UserError: see docs/fairseq2.md."""
    if gangs.tp.size > 1:
        raise UserError("`gang.tensor_parallel_size` must be 1: the model has no tensor parallelism")
    if config.trainer.data_parallelism != "fsdp" or gangs.dp.size == 1:
        return
    copies = [name for name, source in model.targets.items() if any(True for _ in source.parameters())]
    if copies:
        raise UserError(f"`trainer.data_parallelism: fsdp` cannot shard the encoder that targets {copies} copy: set it to ddp")
    if config.criterion.log_grad_every:
        raise UserError("`criterion.log_grad_every` needs whole weights: set it to 0, or `trainer.data_parallelism` to ddp")


def opener(data: PretrainingData, split: str, is_training: bool) -> Callable[[int], BatchesByLength]:
    """The dataset of an epoch: another one only where shards take turns."""
    opened: dict = {}

    def open_epoch(epoch: int) -> BatchesByLength:
        turn = (epoch - 1) % data.num_shards if is_training else 0
        if turn not in opened:
            opened.clear()
            opened[turn] = data.open(split, turn + 1, is_training)
        return opened[turn]

    return open_epoch


def _reader(context: RecipeContext, config: PretrainConfig, data: PretrainingData, split: str, is_training: bool) -> BatchReader:
    return BatchReader(
        opener(data, split, is_training),
        context.gangs,
        max_tokens=config.dataset.max_tokens,
        max_sentences=config.dataset.batch_size,
        num_accumulate=config.trainer.grad_accumulation.num_batches if is_training else 1,
        num_workers=config.dataset.num_workers,
        seed=config.common.seed,
        shuffle=is_training,
    )
