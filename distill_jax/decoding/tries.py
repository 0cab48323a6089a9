"""Tries (prefix trees) of the texts that an output may be, as arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill_jax.decoding.batching import bucket_length


class Tries(NamedTuple):
    """A trie for each row; rows with the same texts share one. Sizes are padded, so few programs are compiled.

    Attributes:
      ids: int32 [tokens], the ids that occur in any trie.
      tokens: int32 [nodes, branches], indices into `ids`; -1 is none.
      children: int32 [nodes, branches], the node that each leads to, or a text, see `text_number`.
      roots: int32 [rows], the node that a row begins at, or a text.
    """

    ids: np.ndarray
    tokens: np.ndarray
    children: np.ndarray
    roots: np.ndarray


def text_number(node: int) -> int:
    """The number of the text that a node below 0 stands for: it is the only one left there."""
    return -1 - int(node)


def build_tries(choices: Sequence[Sequence[Sequence[int]]]) -> Tries:
    """The tries of `choices`: of each row the tokens of one or more texts, each with the end token last.

    Of equal texts the first counts. Raises ValueError when a row has no text.
    """
    nodes: list[dict[int, int]] = []

    def grow(texts: Sequence[tuple[int, ...]]) -> int:
        """The root of a new trie. A loop, as texts may share more tokens than Python's stack holds."""
        root, distinct = {}, {}
        for number, text in enumerate(texts):
            distinct.setdefault(text, number)
        # The numbers of the texts that are left, their next token's place, and the node's parent and token.
        pending = [(list(distinct.values()), 0, root, 0)]
        while pending:
            numbers, depth, parent, token = pending.pop()
            if len(numbers) == 1:
                parent[token] = -1 - numbers[0]
                continue
            parent[token] = len(nodes)
            nodes.append({})
            branches: dict[int, list[int]] = {}
            for number in numbers:
                branches.setdefault(texts[number][depth], []).append(number)
            pending += [(below, depth + 1, nodes[-1], branch) for branch, below in branches.items()]
        return root[0]

    root_of: dict[tuple[tuple[int, ...], ...], int] = {}
    roots = np.zeros(len(choices), np.int32)
    for row, row_choices in enumerate(choices):
        texts = tuple(map(tuple, row_choices))
        if not texts:
            raise ValueError(f"row {row} has no texts to choose from")
        if texts not in root_of:
            root_of[texts] = grow(texts)
        roots[row] = root_of[texts]

    ids = sorted({token for node in nodes for token in node})
    index_of = {token: index for index, token in enumerate(ids)}
    widest = max(map(len, nodes), default=1)
    shape = (bucket_length(len(nodes)), 1 << (widest - 1).bit_length())
    tokens, children = np.full(shape, -1, np.int32), np.zeros(shape, np.int32)
    for number, node in enumerate(nodes):
        tokens[number, : len(node)] = [index_of[token] for token in node]
        children[number, : len(node)] = list(node.values())
    padded_ids = np.zeros(bucket_length(len(ids)), np.int32)
    padded_ids[: len(ids)] = ids
    return Tries(padded_ids, tokens, children, roots)
