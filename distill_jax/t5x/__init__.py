"""The bridge to T5X and SeqIO; needs T5X, see docs/t5x.md.

What enters: registered tasks and the macros of gin files. What leaves: SeqIO tasks and mixtures
(`seqio_tasks.register`), and for T5X's launcher a model class, a feature converter, a trainer, and our options
as objects (`settings`). The `seqio_` modules and the feature converter import TensorFlow; nothing else does.
"""
