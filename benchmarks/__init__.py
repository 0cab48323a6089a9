"""Timings beside peers: PyTorch, transformers, T5X, SeqIO, and our own commands at scale.

In: the settings of `benchmarks.settings`, or the flags of one module. Out: rates and memory of each
contestant, as a table and as JSON in `benchmarks/results/`; `docs/benchmarks.md` says how each is measured.
"""
