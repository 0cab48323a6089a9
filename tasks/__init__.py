"""SeqIO tasks shipped with distill_jax; installed as distill_jax.tasks."""
