"""What rules without knowledge reach: the floor under an accuracy, learnt from train and applied to test.

- `majority`: the most frequent label.
- `wording`: the most frequent label of rows with the same frame: the words that a tenth of train's inputs have.
- `words`: a logistic regression on the words of the input (of its last part, where it has a premise, with
  those that the premise lacks); only of few classes.
- `lookup`: the most frequent label of the same input, else of the same key, of several the first that train
  has, else what `wording` says. A key is what a task is about, such as the pair of words it compares.
"""

import collections
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from distill_jax.data.schema import Example
from distill_jax.data.vocabularies import END
from distill_jax.scoring.metrics import words

FREQUENT = 0.1  # share of train's inputs that have a word which belongs to the wording
MOST_CLASSES = 20
L2 = 1.0
Key = Callable[[Example], Hashable]


def predictions(
    train: Sequence[Example],
    test: Sequence[Example],
    classes: Sequence[str] | None = None,
    keys: Sequence[Key] = (),
) -> dict[str, list[str]]:
    """The label of each test row by each rule.

    Args:
      train, test: with reference labels; a row of train without one teaches nothing.
      classes: of the task, where it has some; without, or with more than 20, there is no rule `words`.
      keys: of the lookup, the most exact first; a key of None is no key.

    Returns:
      rule -> labels; {} where no row of train has a label.
    """
    train = [example for example in train if example.label is not None]
    if not train:
        return {}
    frame = _frame(train)
    found = {
        "majority": [look_up(train, ())(example) for example in test[:1]] * len(test),
        "wording": list(map(look_up(train, (frame,)), test)),
        "lookup": list(map(look_up(train, (lambda example: example.input, *keys, frame)), test)),
    }
    if classes and len(classes) <= MOST_CLASSES:
        found["words"] = _regression(train, test)
    return found


def look_up(train: Sequence[Example], keys: Sequence[Key]) -> Callable[[Example], str]:
    """A rule: the most frequent label that train has for the first key that it has; without any, of all rows.

    Of labels that are equally frequent the one that comes first in train.
    """
    tables: list[Mapping[Hashable, collections.Counter]] = []
    for key in (*keys, lambda example: ()):
        table = collections.defaultdict(collections.Counter)
        for example in train:
            if (value := key(example)) is not None:
                table[value][example.label] += 1
        tables.append({value: counts.most_common(1)[0][0] for value, counts in table.items()})

    def rule(example: Example) -> str:
        for key, table in zip(keys, tables, strict=False):
            if (label := table.get(key(example))) is not None:
                return label
        return tables[-1][()]

    return rule


def _frame(train: Sequence[Example]) -> Key:
    """The wording of an input: its words in their order, those that are not frequent in train left blank."""
    counts = collections.Counter(word for example in train for word in set(words(example.input)))
    frequent = {word for word, count in counts.items() if count >= FREQUENT * len(train)}
    return lambda example: tuple(word if word in frequent else "" for word in words(example.input))


def _bag(example: Example) -> set[str]:
    """Features of an input: each word of its last part; where it has a premise, which of them that lacks."""
    premise, end, last = example.input.rpartition(END)
    own, known = words(last), set(words(premise))
    new = {word for word in own if word not in known} if end else set()
    return {"", *own, *(f"new {word}" for word in new), f"{len(new)} new", f"{len(own)} words"}


def _regression(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """Multinomial logistic regression with an L2 penalty of 1, as scikit-learn's default, by L-BFGS."""
    from scipy.optimize import minimize
    from scipy.sparse import csr_array
    from scipy.special import log_softmax

    labels = sorted({example.label for example in train})
    columns = {word: i for i, word in enumerate(sorted(set().union(*map(_bag, train))))}

    def matrix(examples: Sequence[Example]) -> csr_array:
        rows = [sorted(columns[word] for word in _bag(example) if word in columns) for example in examples]
        starts = np.cumsum([0, *map(len, rows)])
        ones = np.ones(starts[-1])
        return csr_array((ones, np.concatenate(rows).astype(int), starts), (len(rows), len(columns)))

    features = matrix(train)
    targets = np.eye(len(labels))[[labels.index(example.label) for example in train]]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(len(columns), len(labels))
        logs = log_softmax(features @ weights, axis=1)
        slope = features.T @ (np.exp(logs) - targets) + L2 * weights
        return -(targets * logs).sum() + L2 / 2 * (weights**2).sum(), slope.ravel()

    start = np.zeros(len(columns) * len(labels))
    weights = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    scores = matrix(test) @ weights.reshape(len(columns), len(labels))
    return [labels[i] for i in scores.argmax(1)]
