"""`python -m fairseq_birq.fairseq2.asr OUTPUT_DIR --config-file examples/finetune/fairseq2/debug.yaml --config task.data=...`"""

from fairseq2.recipe.cli import main

from fairseq_birq.fairseq2.asr.recipe import AsrRecipe

if __name__ == "__main__":
    main(AsrRecipe())
