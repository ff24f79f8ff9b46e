"""Pictures of codes, layers and runs."""
