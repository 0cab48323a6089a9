"""The student networks in Flax Linen, a family each, and the cross entropy and divergences of their logits.

In: the shape of a student (`config.ModelConfig`, made by `families`), token ids [batch, length], and for the
cross entropy the targets, for divergences a teacher's logits. Out: logits [batch, length, vocab], decoder
states, scalars. Arrays carry logical axis names; which of them are sharded is decided by
`training.partitioning`, or by T5X.
"""
