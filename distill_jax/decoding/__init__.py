"""Predictions for inputs that are no task: from Python, from files, and (`distill_jax.serving`) over HTTP."""
