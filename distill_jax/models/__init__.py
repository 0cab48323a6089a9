"""The student network: T5 in Flax Linen, and its cached decoding."""
