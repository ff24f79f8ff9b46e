"""Text, word times and confidence of recordings, from a fine-tuned checkpoint. Needs no data folder."""
