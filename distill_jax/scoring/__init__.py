"""How good an answer is: metrics, equations, calibration. Texts and numbers go in, figures come out; no JAX."""
