"""Word and character error rate of a fine-tuned model, and what it writes; of a checkpoint of either side."""

from fairseq2.logging import log
from fairseq2.recipe import Recipe, RecipeContext
from fairseq2.recipe.config import ReferenceModelSection

from fairseq_birq.decoding import lexicon_decoder
from fairseq_birq.decoding.alphabet import Alphabet
from fairseq_birq.decoding.options import OF_LEXICON, choose_decoder
from fairseq_birq.fairseq2 import register
from fairseq_birq.fairseq2.asr.config import AsrEvalConfig, DecoderSection
from fairseq_birq.fairseq2.asr.data import open_split, with_foreign_letters
from fairseq_birq.fairseq2.asr.settings import take_checkpoint
from fairseq_birq.fairseq2.asr.units import CtcEvalUnit
from fairseq_birq.fairseq2.ctc_family import Fairseq2CtcModel
from fairseq_birq.fairseq2.reader import BatchReader


class AsrEvalRecipe(Recipe):
    """`model.path` names a checkpoint; or `model.name` one that fairseq2 finds in `common.assets.prev_checkpoint_dir`."""

    def register(self, container) -> None:
        register(container)

    @property
    def config_kls(self):
        return AsrEvalConfig

    def create_task(self, context: RecipeContext):
        config = context.get_config_as(AsrEvalConfig)
        section = context.resolver.resolve(ReferenceModelSection, key="model")
        if section.path is not None:
            take_checkpoint(section)
        model = context.get_model_as(Fairseq2CtcModel)
        split = config.dataset.subset
        letters, foreign = with_foreign_letters(config.task, split, Alphabet(model.symbols))
        if foreign:
            listed = ", ".join(f"{letter!r} ({count} times)" for letter, count in foreign.most_common(20))
            log.warning("{}: letters that the checkpoint lacks: {}; each of them counts as an error", split, listed)
        dataset = open_split(config.task, split, letters, model.speech_encoder.frontend.sample_rate)
        reader = BatchReader(
            lambda epoch: dataset,
            context.gangs,
            max_tokens=max(config.dataset.max_tokens, int(dataset.sizes.max())),  # nothing is left out
            num_workers=config.dataset.num_workers,
            shuffle=False,
        )
        decoder = build_decoder(config.decoder, model.symbols)
        unit = CtcEvalUnit(model, letters, context.gangs.dp, decoder, self._transcriptions(context))
        return context.create_evaluator([unit], [reader])

    @staticmethod
    def _transcriptions(context):
        """`OUTPUT_DIR/transcriptions/rank_N.tsv`: row of the manifest, transcript, what was heard."""
        folder = context.output_dir / "transcriptions"
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / f"rank_{context.gangs.dp.rank}.tsv", "w", encoding="utf-8")
        file.write("row\ttranscript\theard\n")
        return file


def build_decoder(section, symbols):
    """What `decoder` asks for; None: greedy. Raises UserError for an option that would have no effect."""
    options = {key: getattr(section, key) for key in OF_LEXICON if hasattr(section, key)}
    defaults = {**OF_LEXICON, **{key: getattr(DecoderSection(), key) for key in options}}
    names = {key: f"`decoder.{key}`" for key in OF_LEXICON}
    if choose_decoder(section.name, options, names, defaults) == "greedy":
        return None
    return lexicon_decoder(symbols, Alphabet.blank, **options)
