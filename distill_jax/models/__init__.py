"""The student networks in Flax Linen, a family each, and the losses of their training.

In: the shape of a student (`config.ModelConfig`, made by `families`), token ids [batch, length], and for the
losses the targets and what is known of the teacher's distribution. Out: logits [batch, length, vocab], decoder
states, scalar losses. Arrays carry logical axis names; which of them are sharded is decided by
`training.partitioning`, or by T5X.
"""
