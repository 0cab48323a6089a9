"""distill_jax: distilling step-by-step in JAX, from a teacher's rationales to a small T5 student."""

__version__ = "0.1.0"
