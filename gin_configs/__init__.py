"""Gin configs shipped with distill_jax; installed as distill_jax.gin_configs."""
