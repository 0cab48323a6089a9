"""The views of a task's examples as a source of SeqIO's."""

import os
from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf

from distill_jax.data.schema import Example
from distill_jax.data.selection import share
from distill_jax.data.task import DistillationTask
from distill_jax.data.views import View, soften
from distill_jax.errors import UserError


class ExampleSource(seqio.DataSource):
    """A view of a task's examples as a `tf.data.Dataset`; examples without this target are left out.

    Each of DISTILL_JAX_SOURCE_SHARDS shards (default 1) reads the whole source and takes every so manieth
    example: what is shared out to the workers of a Beam pipeline is the preprocessing.

    Args:
      task, view: which examples, and what to make of them.
      fraction, count, seed: of the train split; see `data.selection.share`.
    """

    def __init__(
        self, task: DistillationTask, view: View, fraction: float = 1.0, count: int | None = None, seed: int = 0
    ):
        super().__init__(splits=tuple(task.source.splits))
        self.task, self._view, self._train_share = task, view, (fraction, count, seed)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        """Names of the shards; only their number matters."""
        count = int(os.environ.get("DISTILL_JAX_SOURCE_SHARDS", "1"))
        return [f"{split}-{number:05}-of-{count:05}" for number in range(count)]

    def _row(self, split: str, number: int, example: Example) -> dict | None:
        view = self._view
        if not view.soft:
            texts = view(example)
            return None if texts is None else {"inputs": texts[0], "targets": texts[1]}
        try:
            label = soften(example, self.task.classes, view.target)
        except ValueError as error:
            raise UserError(f"{self.task.source.where(split, number)}: {error}") from None
        if label is None:
            return None
        return {
            "inputs": view.inputs(example),
            "targets": example.label or "",
            "choices": label.choices,
            "probs": label.probs,
            "reference": label.reference,
        }

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        *,
        sequence_length: Mapping[str, int] | None = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        """Texts in the order of the source: `inputs` and `targets`, and of soft labels all they are made of."""
        del shuffle, seed, sequence_length, use_cached, num_epochs
        index, count = (shard_info.index, shard_info.num_shards) if shard_info else (0, 1)

        def rows():
            part = self._train_share if split == "train" else (1.0, None, 0)
            for number, example in share(self.task.source, split, *part):
                if number % count == index and (row := self._row(split, number, example)) is not None:
                    yield row

        text = tf.TensorSpec((), tf.string)
        signature = {"inputs": text, "targets": text}
        if self._view.soft:
            signature |= {
                "choices": tf.TensorSpec((None,), tf.string),
                "probs": tf.TensorSpec((None,), tf.float32),
                "reference": tf.TensorSpec((), tf.int32),
            }
        return tf.data.Dataset.from_generator(rows, output_signature=signature)
