"""Prefix trees of the texts that an output may be, as arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill_jax.decoding.batching import bucket_length


class Trees(NamedTuple):
    """A tree a row; rows with the same texts share one. Sizes are padded, so that few programs are compiled.

    Attributes:
      ids: int32 [tokens], all that occur.
      tokens: int32 [nodes, branches], places in `ids`; -1 is none.
      after: int32 [nodes, branches], the node that each leads to, or a text, see `text_at`.
      roots: int32 [rows], the node that a row begins at, or a text.
    """

    ids: np.ndarray
    tokens: np.ndarray
    after: np.ndarray
    roots: np.ndarray


def text_at(node: int) -> int:
    """The number of the text that a node below 0 stands for: no other one is left there."""
    return -1 - int(node)


def plant(choices: Sequence[Sequence[Sequence[int]]]) -> Trees:
    """Makes the trees.

    Args:
      choices: of each row the tokens of one or more texts, each with the end token, and none
        after it. Of equal ones the first counts.

    Raises:
      ValueError: when a row has no text.
    """
    nodes: list[dict[int, int]] = []

    def grow(texts: list[tuple[int, ...]], numbers: list[int], depth: int) -> int:
        if len(numbers) == 1:
            return -1 - numbers[0]
        branches: dict[int, list[int]] = {}
        for number in numbers:
            branches.setdefault(texts[number][depth], []).append(number)
        node = len(nodes)
        nodes.append({})
        nodes[node] |= {token: grow(texts, some, depth + 1) for token, some in branches.items()}
        return node

    planted: dict[tuple[tuple[int, ...], ...], int] = {}
    roots = np.zeros(len(choices), np.int32)
    for row, some in enumerate(choices):
        texts = tuple(map(tuple, some))
        if not texts:
            raise ValueError(f"row {row} has no texts to choose from")
        if texts not in planted:
            distinct = [number for number, text in enumerate(texts) if text not in texts[:number]]
            planted[texts] = grow(list(texts), distinct, 0)
        roots[row] = planted[texts]

    ids = sorted({token for node in nodes for token in node})
    places = {token: place for place, token in enumerate(ids)}
    widest = max(map(len, nodes), default=1)
    shape = (bucket_length(len(nodes)), 1 << (widest - 1).bit_length())
    tokens, after = np.full(shape, -1, np.int32), np.zeros(shape, np.int32)
    for number, node in enumerate(nodes):
        tokens[number, : len(node)] = [places[token] for token in node]
        after[number, : len(node)] = list(node.values())
    padded_ids = np.zeros(bucket_length(len(ids)), np.int32)
    padded_ids[: len(ids)] = ids
    return Trees(padded_ids, tokens, after, roots)
