"""Hostile files for everything that reads a file or a request.

What enters: names of readers and seconds, on the command line of `python -m distill_jax.experiments.fuzz`. What
leaves: `experiments/results/fuzz.json`: of each reader how many inputs were tried, and each fault that one had.
"""
