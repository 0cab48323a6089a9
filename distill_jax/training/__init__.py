"""Training: configuration, build, fit.

In goes a `TrainConfig`; out come a run's folder with checkpoints, and the last metrics. `methods` picks
network, loss and optimizer, `objectives` is what a step minimises (the cross entropy itself is
`models.losses`), `step` is the jitted step, `loop` steps, logs, validates and saves.
"""
