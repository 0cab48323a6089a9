"""Best-fit packing of (encoder, decoder) lengths into rows of fixed capacity."""

import numpy as np

from distill_jax.errors import UserError

IMBALANCE = 2.0  # how much worse than an unused token is one that upsets the balance of the lengths


def pack(lengths: np.ndarray, capacity: tuple[int, int]) -> list[list[int]]:
    """Packs items into rows, filling one row after the other with what fits it best.

    A row starts with the largest item left. Then, of the items that still fit, it takes the one
    that leaves least room in the scarcer of the two lengths, unless that uses much less or much
    more of the other length than the items left do on average: rows of rationales only would have
    their decoder full and their encoder half empty, and leave labels that do the opposite. This is
    the bin-centric greedy of Panigrahy et al. 2011 ("Heuristics for vector bin packing"), with our
    own score.

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
    demand = relative[shape_of].sum(axis=0)
    largest_first = np.argsort(-relative.max(axis=1), kind="stable")
    relative, left = relative[largest_first], largest_first

    rows = []
    while len(left):
        scarce = int(demand.argmax())
        other = 1 - scarce
        share = demand[other] / demand[scarce]  # of the other length, to a whole scarce one
        row: list[int] = []
        room = np.ones(2)
        while len(left):
            rest_scarce, rest_other = room[scarce] - relative[:, scarce], room[other] - relative[:, other]
            choice = 0
            if row:
                fits = np.minimum(rest_scarce, rest_other) >= -1e-9
                if not fits.any():
                    break
                spent_too_much = rest_scarce * share - rest_other
                spent_too_little = (1 - rest_scarce) * share - (1 - rest_other)
                imbalance = np.maximum(0.0, np.maximum(spent_too_much, spent_too_little))
                score = np.where(fits, rest_scarce + IMBALANCE * imbalance, np.inf)
                choice = int(score.argmin())
            taken = relative[choice]
            room, demand = room - taken, demand - taken
            row.append(items[left[choice]].pop())
            if not items[left[choice]]:
                relative, left = np.delete(relative, choice, axis=0), np.delete(left, choice)
        rows.append(row)
    return rows
