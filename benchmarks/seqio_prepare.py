"""SeqIO's own way through the same task: its tokenizing preprocessors and its packing feature converter."""

from distill_jax.tasks import registry


def packed_rows(vocabulary: str, lengths: dict[str, int], task_name: str) -> tuple[int, int]:
    """Reads, tokenizes and packs the train split once, each row as numpy arrays.

    Args:
      vocabulary: for `seqio_tasks.register`.
      lengths: of a row.
      task_name: of a task that is registered with SeqIO on the way.

    Returns:
      Examples (views of rows) that went in, and packed rows that came out.
    """
    import seqio

    from distill_jax.t5x import seqio_tasks

    seqio_tasks.register([registry.get_task(task_name)], vocabulary)
    mixture = seqio.get_mixture_or_task(f"{task_name}_step_by_step")
    dataset = mixture.get_dataset(lengths, split="train", shuffle=False, num_epochs=1)
    rows, examples = 0, 0
    for row in seqio.EncDecFeatureConverter(pack=True)(dataset, lengths).as_numpy_iterator():
        rows += 1
        examples += int(row["decoder_segment_ids"].max())
    return examples, rows
