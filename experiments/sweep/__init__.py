"""`distill-jax sweep`: a grid of students, each trained and scored once, however often it is stopped.

In: a YAML file (`grid`). Out: a folder for each cell (`cell`), run in processes of their own or as jobs of a
cluster (`run`), and `results.json` with the table of all (`table`).
"""
