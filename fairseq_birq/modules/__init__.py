"""Small layers, and modules that keep their precision."""
