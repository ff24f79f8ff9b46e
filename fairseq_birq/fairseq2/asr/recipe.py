"""CTC fine-tuning as a recipe of fairseq2, modelled on its own of wav2vec 2.0 (recipes/wav2vec2/asr)."""

from fairseq2.logging import log
from fairseq2.recipe import Recipe, RecipeContext
from fairseq2.recipe.config import ModelSection

from fairseq_birq.errors import UserError
from fairseq_birq.fairseq2 import register
from fairseq_birq.fairseq2.asr.config import AsrConfig
from fairseq_birq.fairseq2.asr.data import open_split, read_alphabet
from fairseq_birq.fairseq2.asr.settings import complete_settings
from fairseq_birq.fairseq2.asr.units import CtcEvalUnit, CtcTrainUnit
from fairseq_birq.fairseq2.ctc_family import Fairseq2CtcModel
from fairseq_birq.fairseq2.reader import BatchReader


class AsrRecipe(Recipe):
    """`model.config_overrides.pretrained_path` names the encoder to start from; without it training begins with a new one."""

    def __init__(self):
        self._encoder_state = None

    def register(self, container) -> None:
        register(container)

    @property
    def config_kls(self):
        return AsrConfig

    def create_task(self, context: RecipeContext):
        config = context.get_config_as(AsrConfig)
        letters = read_alphabet(config.task)
        self._encoder_state = complete_settings(context.resolver.resolve(ModelSection), letters, context.resolver)
        model = context.get_model_as(Fairseq2CtcModel)
        check_fits(model, letters, config.task)
        reader = self._reader(context, config, config.dataset.train_subset, letters, is_training=True)
        parallel_model, gang = context.get_data_parallel_model(), context.gangs.dp
        unit = CtcTrainUnit(parallel_model, model, letters, gang, config.criterion.sentence_avg)
        if config.dataset.valid_subset is None:
            return context.create_trainer(unit, reader)
        valid_unit = CtcEvalUnit(parallel_model, letters, gang)
        valid_reader = self._reader(context, config, config.dataset.valid_subset, letters, is_training=False)
        return context.create_trainer(unit, reader, [valid_unit], [valid_reader])

    def setup_model(self, context: RecipeContext, model, newly_initialized: bool):
        """fairseq2 has built the model; where the run begins, the encoder gets the weights that it starts from."""
        if newly_initialized and self._encoder_state is not None:
            model.speech_encoder.load_state_dict(self._encoder_state)
            log.info("The encoder's weights and settings come from the pre-trained checkpoint.")
        if model.disturber is not None:
            model.disturber.open()
        self._encoder_state = None
        return model

    def has_static_autograd_graph(self, context: RecipeContext) -> bool:
        """Skipped layers and a frozen beginning leave parameters without a gradient; DDP then has to look for them."""
        return False

    def _reader(self, context, config, split, letters, is_training):
        speeds = config.task.speeds if is_training else [1.0]
        dataset = open_split(config.task, split, letters, config.task.sample_rate, speeds)
        return BatchReader(
            lambda epoch: dataset,
            context.gangs,
            max_tokens=config.dataset.max_tokens,
            max_sentences=config.dataset.batch_size,
            num_accumulate=config.trainer.grad_accumulation.num_batches if is_training else 1,
            num_workers=config.dataset.num_workers,
            seed=config.common.seed,
            shuffle=is_training,
        )


def check_fits(model, letters, section) -> None:
    """Raises UserError for a model of other letters or another sample rate than the data has."""
    if model.symbols != letters.symbols:
        raise UserError(
            f"the model has other letters than the dictionary of {section.data}; copy the dictionary of its training data "
            f"there. Its letters are: {' '.join(model.symbols[4:])}"
        )
    wanted = model.speech_encoder.frontend.sample_rate
    if section.sample_rate != wanted:
        raise UserError(f"`task.sample_rate` is {section.sample_rate}, but the model's frontend wants {wanted}; set it to that")
