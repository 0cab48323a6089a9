"""The train loop: state, step, optimizers, checkpoints, metrics."""
