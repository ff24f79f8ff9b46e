"""Pre-training as a recipe of fairseq2."""
