"""Labels of a whole corpus, made by a model."""
