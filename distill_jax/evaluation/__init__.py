"""Decoding a split and scoring it with the task's own metrics."""
