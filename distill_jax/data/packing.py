"""Best-fit packing of (encoder, decoder) lengths into rows of fixed capacity."""

import numpy as np

from distill_jax.errors import UserError

SHORTAGE = 4.0  # how much worse a missing token of the other length is than an unused one


def pack(lengths: np.ndarray, capacity: tuple[int, int]) -> list[list[int]]:
    """Packs items into rows, filling one row after the other with what fits it best.

    A row starts with the largest item left. Then, of the items that still fit, it takes the one
    that leaves least room in the scarcer of the two lengths, unless that leaves too little of the
    other length for what is to come: a row of rationales only would have its decoder full and its
    encoder half empty. This is the bin-centric greedy of Panigrahy et al. 2011 ("Heuristics for
    vector bin packing"), with our own score.

    Args:
      lengths: int [items, 2], encoder and decoder length of each item, from 1.
      capacity: the same of a row.

    Returns:
      Rows of item numbers: every item once, no row over its capacity in either length.

    Raises:
      UserError: when an item alone is over the capacity.
    """
    if not len(lengths):
        return []
    if (lengths.max(axis=0) > capacity).any():
        raise UserError(f"an example of {lengths.max(axis=0)} tokens does not fit into {capacity}")
    shapes, shape_of = np.unique(lengths, axis=0, return_inverse=True)
    items: list[list[int]] = [[] for _ in shapes]
    for item, shape in enumerate(shape_of.tolist()):
        items[shape].append(item)
    relative = shapes / np.asarray(capacity)
    demand = (lengths / np.asarray(capacity)).sum(axis=0)
    scarce = int(demand.argmax())
    other = 1 - scarce
    largest_first = np.argsort(-relative.max(axis=1), kind="stable")
    relative, left = relative[largest_first], largest_first

    rows = []
    while len(left):
        row: list[int] = []
        room = np.ones(2)
        while len(left):
            rest = room - relative
            fits = (rest >= -1e-9).all(axis=1)
            choice = 0
            if row:
                if not fits.any():
                    break
                needed = rest[:, scarce] * demand[other] / demand[scarce]
                shortage = np.maximum(0.0, needed - rest[:, other])
                score = np.where(fits, rest[:, scarce] + SHORTAGE * shortage, np.inf)
                choice = int(score.argmin())
            room = rest[choice]
            row.append(items[left[choice]].pop())
            if not items[left[choice]]:
                relative, left = np.delete(relative, choice, axis=0), np.delete(left, choice)
        rows.append(row)
    return rows
