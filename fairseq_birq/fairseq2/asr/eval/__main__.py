"""`python -m fairseq_birq.fairseq2.asr.eval OUTPUT_DIR --config task.data=... dataset.subset=test model.path=...`"""

from fairseq2.recipe.cli import main

from fairseq_birq.fairseq2.asr.eval.recipe import AsrEvalRecipe

if __name__ == "__main__":
    main(AsrEvalRecipe())
