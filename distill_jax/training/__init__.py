"""Training: configuration, build, fit.

In goes a `TrainConfig`; out come a run's folder with checkpoints, and the last metrics. `methods` picks
network, loss and optimizer, `losses` is what a step minimises (the cross entropy of logits is
`models.logits`), `step` is the jitted step, `loop` steps, logs, validates and saves.
"""
