"""Which rows to annotate next: those a student is least sure of, or a random sample."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence

from distill_jax.data.schema import Example
from distill_jax.decoding.predict import Request
from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError
from distill_jax.scoring.uncertainty import LOG_PROB, MEASURES, Unsure

DEFAULT = "margin"  # where there are labels to rank
WINDOW = 8  # batches that are read, sorted by length and scored at a time


def uncertainties(
    predictor: Predictor, rows: Iterable[Example], measure: str | None = None
) -> Iterator[Unsure]:
    """How unsure the student is of each row, in order; memory does not grow with them.

    Args:
      rows: of these only `input` and `choices` count, and `rationale` for a student that reads it.
      measure: a key of `uncertainty.MEASURES`, over the student's probabilities of the labels that a row can
        have (see `predict.ranking`); or `log-prob`, minus the mean log-probability of the tokens of the label
        that it writes, for labels that are free text. Default `margin` where there are labels to rank.

    Raises:
      UserError: for an unknown measure, and where a row has no labels to rank.
    """
    measures = (*MEASURES, LOG_PROB)
    if measure is not None and measure not in measures:
        raise UserError(f"unknown measure {measure!r}: expected one of {', '.join(measures)}")
    rows = iter(rows)
    while window := list(itertools.islice(rows, WINDOW * predictor.engine.batch_size)):
        if measure is None:
            measure = DEFAULT if predictor.student.task.classes or window[0].choices else LOG_PROB
        if measure == LOG_PROB:
            yield from _by_log_prob(predictor, window)
            continue
        ranked = predictor.predict_examples(window, Request(label_by="rank"))
        for example, prediction in zip(window, ranked, strict=True):
            uncertainty = MEASURES[measure](list(prediction.label_probs.values()))
            yield Unsure(uncertainty, example.id, prediction.label)


def _by_log_prob(predictor: Predictor, rows: Sequence[Example]) -> Iterator[Unsure]:
    """Minus the mean log-probability of the tokens that the label is read from, the end token included."""
    request = Request()
    predictor.check(rows, request)
    [view] = predictor.views(request)
    length = predictor.student.lengths["targets"]
    generated = predictor.engine.generate([view.inputs(row) for row in rows], length, start=view.start)
    for row, (hypothesis,) in zip(rows, generated, strict=True):
        uncertainty = -hypothesis.log_prob / len(hypothesis.tokens)
        yield Unsure(uncertainty, row.id, view.read(hypothesis.text)["label"])


def at_random(rows: Iterable[Example], count: int, seed: int) -> list[str]:
    """Ids of `count` rows, each set of them as likely; of all rows, where there are no more.

    The rows are read once, `count` ids of them held; the same rows and seed give the same ids.
    """
    generator = random.Random(seed)
    chosen: list[str] = []
    for number, row in enumerate(rows):  # reservoir sampling (Vitter 1985)
        place = number if number < count else generator.randint(0, number)
        if place < count:
            chosen[place : place + 1] = [row.id]
    return chosen
