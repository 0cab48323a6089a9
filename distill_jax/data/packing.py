"""Packing of (encoder, decoder) lengths into rows of fixed capacity: random items, then what fits best."""

import numpy as np

from distill_jax.errors import UserError

IMBALANCE = 2.0  # how much worse than an unused token is one that upsets the balance of the lengths
CLOSING = 2.0  # a row with room for fewer mean items than this is filled by what fits it best
_EPSILON = 1e-9  # of a row: for sums of shares that are 1


def pack(lengths: np.ndarray, capacity: tuple[int, int]) -> list[list[int]]:
    """Packs items into rows: each takes random items, then those that fill it best.

    A batch of few rows has to be a random draw of the examples. Packing by fit alone is none: it puts items of
    one length side by side, and lengths tell classes apart, so that whole rows were of one class. So a row
    takes items in random order for as long as there is room for more. Then, of all items left that fit, it
    takes the one that leaves least room in the scarcer of the two lengths, unless that uses much less or much
    more of the other length than the items left do on average: rows of rationales only would have their
    decoder full and their encoder half empty, and leave labels that do the opposite. The second part is the
    bin-centric greedy of Panigrahy et al. 2011 ("Heuristics for vector bin packing"), with our own score.

    Args:
      lengths: int [items, 2], encoder and decoder length of each item, from 1.
      capacity: the same of a row.

    Returns:
      Rows of item numbers: every item once, no row over its capacity in either length. The same for the same
      lengths.

    Raises:
      UserError: when an item alone is over the capacity.
    """
    if len(lengths) and (lengths.max(axis=0) > capacity).any():
        raise UserError(f"an example of {lengths.max(axis=0)} tokens does not fit into {capacity}")
    left = _Left(lengths / np.asarray(capacity))
    rows = []
    while left.number:
        mean, scarce = left.demand / left.number, int(left.demand.argmax())
        share = left.demand[1 - scarce] / left.demand[scarce]  # of the other length, to a whole scarce one
        row, room = [left.take_next()], np.ones(2)
        room = room - left.sizes[row[0]]
        while left.number and (room - left.sizes[left.next()] >= CLOSING * mean).all():
            row.append(left.take_next())
            room = room - left.sizes[row[-1]]
        while (item := left.take_best(room, scarce, share)) is not None:
            row.append(item)
            room = room - left.sizes[item]
        rows.append(row)
    return rows


class _Left:
    """The items that are in no row yet: in random order, and by their shape."""

    def __init__(self, sizes: np.ndarray):
        self.sizes, self.number, self.demand = sizes, len(sizes), sizes.sum(axis=0)
        self._order = np.random.default_rng(0).permutation(self.number).tolist()[::-1]
        self._shapes, shape_of = np.unique(sizes, axis=0, return_inverse=True)
        self._of_shape: list[list[int]] = [[] for _ in self._shapes]
        for item in self._order:
            self._of_shape[shape_of[item]].append(item)
        self._is_left = np.ones(self.number, bool)

    def next(self) -> int:
        """The next item in random order."""
        while not self._is_left[self._order[-1]]:
            self._order.pop()
        return self._order[-1]

    def take_next(self) -> int:
        """Takes it."""
        return self._take(self.next())

    def take_best(self, room: np.ndarray, scarce: int, share: float) -> int | None:
        """Takes the item that fits `room` best; None where none fits."""
        scarce_left = room[scarce] - self._shapes[:, scarce]
        other_left = room[1 - scarce] - self._shapes[:, 1 - scarce]
        spent_too_much = scarce_left * share - other_left
        spent_too_little = (1 - scarce_left) * share - (1 - other_left)
        imbalance = np.maximum(0.0, np.maximum(spent_too_much, spent_too_little))
        fits = np.minimum(scarce_left, other_left) >= -_EPSILON
        score = np.where(fits, scarce_left + IMBALANCE * imbalance, np.inf)
        while len(score) and np.isfinite(score[choice := int(score.argmin())]):
            items = self._of_shape[choice]
            while items and not self._is_left[items[-1]]:
                items.pop()
            if items:
                return self._take(items.pop())
            del self._of_shape[choice]
            self._shapes, score = np.delete(self._shapes, choice, axis=0), np.delete(score, choice)
        return None

    def _take(self, item: int) -> int:
        self._is_left[item] = False
        self.number -= 1
        self.demand = self.demand - self.sizes[item]
        return item
