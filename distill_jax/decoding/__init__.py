"""What a student writes, and how likely it finds given texts: parameters and texts go in, predictions come out.

`student` reads a run's folder, `predictor` is what `distill_jax.load` returns, `predict` turns examples into
requests of an engine (`engine_base`): `engine` computes in JAX, `ctranslate` in CTranslate2, `engines` picks
one. Beneath JAX's: greedy decoding by continuous batching (`continuous`, its device half `continuous_device`,
and `tries` for outputs that are chosen), sampling and beams (`search`), the log-probability of given texts
(`likelihood`), weight-only `quantization`, and `batching` to few shapes.
`output` writes rows that a later run resumes, `select` picks the rows to annotate next.
"""
