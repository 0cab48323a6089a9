"""Experiments that make the figures of the docs: the demo, all methods, active annotation, sweeps.

In: a task, and the flags of `distill-jax demo` or `python -m distill_jax.experiments.NAME`, or a sweep's file.
Out: the figures as JSON (`experiments/results/`, or the demo's folder), and a page of the docs or a report made
from them.
"""
