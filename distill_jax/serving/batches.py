"""What a batch is made of, and which programs it needs."""

import dataclasses
from collections.abc import Sequence

from distill_jax.config import Decoding
from distill_jax.data.schema import Example
from distill_jax.data.views import View
from distill_jax.decoding.batching import batches, bucket_length, fine_length, padded_rows
from distill_jax.decoding.engine_base import BaseEngine
from distill_jax.decoding.predict import Request
from distill_jax.serving.generation import Form


@dataclasses.dataclass(frozen=True)
class Generate:
    """Settings that all inputs of a batch of completions share."""

    form: Form
    decoding: Decoding
    with_pieces: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """An input of a batch.

    Attributes:
      stream: as of `Engine.generate`.
      lengths: tokens of the input of each view, as the student reads it.
    """

    example: Example
    stream: int
    lengths: tuple[int, ...]


def make_items(
    engine: BaseEngine, views: Sequence[View], examples: Sequence[Example], streams: Sequence[int]
) -> list[Item]:
    """The items of some examples that these views are decoded for."""
    texts = [[view.inputs(example) for example in examples] for view in views]
    encoded = [engine.vocabulary.encode_batch(of_view) for of_view in texts]
    lengths = [
        [len(engine.vocabulary.frame(ids, engine.inputs_length)) for ids in of_view] for of_view in encoded
    ]
    rows = zip(examples, streams, zip(*lengths, strict=True), strict=True)
    return [Item(example, stream, of_example) for example, stream, of_example in rows]


def programs(engine: BaseEngine, key: Request | Generate, items: Sequence[Item]) -> set[tuple]:
    """Names of the programs that a batch needs, as far as they are known before it runs.

    They tell how its inputs are padded. Programs for a longer output than any before, or for inputs of several
    lengths that came together by chance, have no name here.
    """
    decoding, found = key.decoding, set()
    rows = padded_rows(len(items), engine.batch_size)
    by = "pieces" if isinstance(key, Generate) and key.with_pieces else getattr(key, "label_by", "generate")
    for lengths in zip(*(item.lengths for item in items), strict=True):
        shapes = [shape for _, shape in batches(lengths, engine.inputs_length, engine.batch_size)]
        if decoding.is_greedy:
            found.add(("greedy", rows, fine_length(max(lengths))))
        else:
            rule = ("samples", decoding.n_best) if decoding.samples else ("beams", decoding.num_beams)
            found |= {(*rule, decoding.beam_rule, *shape) for shape in shapes}
        if by != "generate":
            choices = [item.example.choices or () for item in items]
            sizes = max(map(len, choices)), max(sum(map(len, of_item)) for of_item in choices)
            found |= {(by, *shape, *map(bucket_length, sizes)) for shape in shapes}
    return found
