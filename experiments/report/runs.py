"""The runs of a report: one record each, from whichever kind of input, all of the same test rows."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distill_jax.errors import UserError

TEACHER = "teacher"
RULES = {  # without a student: as `scoring.floors` and the demo call them, and as the page does
    TEACHER: "teacher",
    "majority": "majority class",
    "wording": "floor: the wording alone",
    "words": "regression on words",
    "lookup": "lookup in train",
    "joined": "train's labels joined up",
    "constant": "best constant answer",
}
_REFERENCE_ONLY = ("standard",)
_TEACHER_ANYWAY = ("task_distillation",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A trained student, evaluated; None where something is not known.

    Attributes:
      source: where it was read, for messages.
      method: its recipe, or a rule of `RULES`.
      more: what tells it from other runs of the method, in words: a budget, an option.
      label_source: `reference` or `teacher`.
      model: name of the network.
      parameters: their number.
      share: of the training rows, 0 to 1.
      train_rows: rows that it was trained on.
      seed: of parameters, rows and order.
      accuracy: share of the test rows whose label is right.
      correct: whether each test row is right, in the order of the test rows.
      rows: predictions of `distill-jax eval` by id.
      test_rows: number of test rows.
      split: of the task, evaluated.
      fingerprint: of the test rows, as the file of results has it.
      teacher_accuracy: on the same test rows.
      curve: lines of `metrics.jsonl`.
      flops: of the training.
      device_seconds: seconds of training times the number of devices.
      options: of the training, beside those above.
    """

    source: str
    method: str
    accuracy: float
    more: str | None = None
    label_source: str = "reference"
    model: str | None = None
    parameters: int | None = None
    share: float | None = None
    train_rows: int | None = None
    seed: int = 0
    correct: tuple[bool, ...] | None = None
    rows: Mapping[str, Mapping[str, Any]] | None = None
    test_rows: int | None = None
    split: str | None = None
    fingerprint: str | None = None
    teacher_accuracy: float | None = None
    learning_rate: float | None = None
    steps: int | None = None
    curve: Sequence[Mapping[str, float]] = ()
    flops: float | None = None
    device_seconds: float | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_rule(self) -> bool:
        """Whether it is no student."""
        return self.method in RULES

    @property
    def arm(self) -> str:
        """What is compared: the method, with what tells it from others of the same method."""
        labels = self.label_source == "teacher" and self.method not in _TEACHER_ANYWAY
        parts = [self.method, self.more, "teacher's labels" if labels else None]
        return ", ".join(filter(None, parts))

    @property
    def model_name(self) -> str:
        """The network's name, else its number of parameters."""
        return self.model or (
            "not known" if self.parameters is None else f"of {amount(self.parameters)} parameters"
        )

    @property
    def asked(self) -> int | None:
        """Rows that needed the teacher: all training rows of a method that learns from it."""
        needs = self.label_source == "teacher" or self.method not in _REFERENCE_ONLY
        return self.train_rows if needs else 0


def amount(parameters: int) -> str:
    """A number of parameters in words, to four digits: `287.6K`, `134.5M`."""
    scale, unit = next((s, u) for s, u in ((1e9, "B"), (1e6, "M"), (1e3, "K"), (1, "")) if parameters >= s)
    return f"{parameters / scale:.4g}{unit}"


@dataclasses.dataclass(frozen=True)
class Input:
    """What an input holds.

    Attributes:
      runs: students and rules.
      notes: what of it is not shown, and why; for the page.
    """

    runs: list[Run]
    notes: list[str]


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, with the options that differ in `more` where one arm, network, size and seed comes twice.

    Raises:
      UserError: for two runs that do not differ.
    """
    cells: dict[tuple, list[Run]] = collections.defaultdict(list)
    for run in runs:
        if not run.is_rule:
            cells[run.arm, run.model_name, run.share, run.train_rows, run.seed].append(run)
    differing: dict[str, set[str]] = collections.defaultdict(set)
    for (arm, *_), same in cells.items():
        for one, other in itertools.combinations(same, 2):
            names = {name for name in one.options if one.options[name] != other.options.get(name)}
            if not names:
                raise UserError(
                    f"{one.source} and {other.source}: the same method, network, rows and seed: give one"
                )
            differing[arm] |= names
    result = []
    for run in runs:
        words = [f"{name} {_word(run.options.get(name))}" for name in sorted(differing.get(run.arm, ()))]
        result.append(dataclasses.replace(run, more=", ".join([run.more] * bool(run.more) + words) or None))
    return result


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def check_same_test(runs: Sequence[Run]) -> None:
    """Refuses runs of different test rows.

    Raises:
      UserError: naming two that differ, and how.
    """
    first = runs[0]
    for run in runs[1:]:
        difference = _difference(first, run)
        if difference:
            raise UserError(
                f"{first.source} and {run.source} are of different test rows: {difference}: "
                "report runs of one test set only"
            )
        # The one that tells most is what the rest is held against.
        first = max(first, run, key=lambda each: (each.rows is not None, each.fingerprint is not None))


def _difference(one: Run, other: Run) -> str | None:
    """How the test rows of two runs differ, in words; None where nothing says so."""
    if one.rows is not None and other.rows is not None:
        lacking = [
            f"{len(ids)} rows are only in {run.source}, such as {next(iter(ids))!r}"
            for run, ids in ((one, one.rows.keys() - other.rows), (other, other.rows.keys() - one.rows))
            if ids
        ]
        if lacking:
            return "; ".join(lacking)
        for name, row in one.rows.items():
            for field in ("input", "label"):
                before, now = row.get(field), other.rows[name].get(field)
                if before != now:
                    return f"the {field} of row {name!r} is {before!r:.60} and {now!r:.60}"
        return None
    for what, before, now in (
        ("split", one.split, other.split),
        ("number of rows", one.test_rows, other.test_rows),
        ("fingerprint of the rows", one.fingerprint, other.fingerprint),
    ):
        if before is not None and now is not None and before != now:
            return f"{what} {before} and {now}"
    return None


def aligned(runs: Iterable[Run]) -> list[Run]:
    """The runs, those with predictions with `correct` in one order of the test rows."""
    order: list[str] | None = None
    result = []
    for run in runs:
        if run.rows is not None:
            order = order or list(run.rows)
            run = dataclasses.replace(run, correct=tuple(bool(run.rows[name]["correct"]) for name in order))
        result.append(run)
    return result


def with_constant(runs: Sequence[Run]) -> list[Run]:
    """The runs, with the best constant answer to the test rows where no rule is among them."""
    rows = next((run.rows for run in runs if run.rows is not None), None)
    labels = [row["label"] for row in (rows or {}).values() if row.get("label") is not None]
    if not labels or any(run.is_rule and run.method != TEACHER for run in runs):
        return list(runs)
    most = max(len(list(group)) for _, group in itertools.groupby(sorted(labels)))
    return [*runs, Run(source="test rows", method="constant", accuracy=most / len(labels))]
