"""Checkpoints of other codebases, read and written without them."""
