"""How good an answer is: texts, numbers and probabilities go in, figures come out; no JAX.

`metrics` and `equations` compare answers with targets, `classes` and `calibration` sum up many, `consistency`
reads the label that a rationale speaks for, `uncertainty` ranks rows by how unsure a student is of them.
"""
