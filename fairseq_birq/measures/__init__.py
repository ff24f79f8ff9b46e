"""Measures and pictures of runs and labels."""
