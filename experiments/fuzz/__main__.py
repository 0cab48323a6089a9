"""`python -m distill_jax.experiments.fuzz`."""

from distill_jax.experiments.fuzz.main import main

if __name__ == "__main__":
    main()
