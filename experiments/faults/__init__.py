"""`python -m distill_jax.experiments.faults`: what is lost when a command is killed, or its files are damaged.

In: which parts, and how many faults. Out: `experiments/results/faults.json`, and from it the figures in
docs/reliability.md. Each part is a module with `cases`, which inject one kind of fault and judge what a command
makes of it.
"""
