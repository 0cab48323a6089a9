"""`python -m distill_jax.experiments.faults`."""

from distill_jax.experiments.faults.main import main

main()
