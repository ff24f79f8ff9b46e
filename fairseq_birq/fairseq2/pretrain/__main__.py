"""`python -m fairseq_birq.fairseq2.pretrain OUTPUT_DIR --config-file examples/birq/fairseq2/debug.yaml --config task.data=...`"""

from fairseq2.recipe.cli import main

from fairseq_birq.fairseq2.pretrain.recipe import PretrainRecipe

if __name__ == "__main__":
    main(PretrainRecipe())
