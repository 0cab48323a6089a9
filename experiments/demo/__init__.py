"""`distill-jax demo`: standard fine-tuning against step-by-step; `--with-teacher`: with a teacher of its own.

In: the embedded task, seeds and a folder. Out: a table on the terminal, `report.html` and `results.json`;
`experiments.report` makes the former of the latter.
"""
