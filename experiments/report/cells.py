"""The cells of a report (a method, a network, a number of training rows), and what the seeds of each say."""

import collections
import dataclasses
import functools
import statistics
from collections.abc import Sequence

from distill_jax.evaluation.significance import seeds_interval, seeds_p
from distill_jax.experiments.report.runs import RULES, TEACHER, Run

Cell = tuple[str, str, float]  # arm, network, size


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two methods in one cell: accuracy of the second minus the first's, and p; None where not testable."""

    first: str
    second: str
    model: str
    size: float
    difference: float
    p: float | None
    how: str


class Cells:
    """Runs by cell; `arms`, `models` (by size) and `sizes` (rising) are what the cells are of."""

    def __init__(self, runs: Sequence[Run]):
        self.students = [run for run in runs if not run.is_rule]
        self.rules = [run for run in runs if run.is_rule]
        shares = {run.share for run in self.students}
        counts = {run.train_rows for run in self.students}
        by_share = None not in shares and (len(shares) > 1 or None in counts)
        self.axis = "share of the training rows" if by_share else "training rows"
        self._field = "share" if by_share else "train_rows"
        self._cells: dict[Cell, list[Run]] = collections.defaultdict(list)
        for run in self.students:
            self._cells[run.arm, run.model_name, self.size_of(run)].append(run)
        self.arms = list(dict.fromkeys(run.arm for run in self.students))
        parameters = {run.model_name: run.parameters or 0 for run in self.students}
        self.models = sorted(parameters, key=lambda name: (parameters[name], name))
        self.parameters = {name: number for name, number in parameters.items() if number}
        self.sizes = sorted({size for _, _, size in self._cells})

    def size_of(self, run: Run) -> float:
        """Its place on the axis of training rows; 0 where it is not known."""
        return getattr(run, self._field) or 0

    def size_name(self, size: float) -> str:
        """A size in words."""
        if not size:
            return "size not known"
        return f"{100 * size:g}%" if self._field == "share" else f"{size:,} rows"

    def of(self, arm: str, model: str, size: float) -> list[Run]:
        """The runs of a cell, by seed; [] where there is none."""
        return sorted(self._cells.get((arm, model, size), ()), key=lambda run: run.seed)

    def mean(self, cell: Sequence[Run]) -> float:
        """Accuracy, the mean over the seeds."""
        return statistics.fmean(run.accuracy for run in cell)

    def interval(self, cell: Sequence[Run]) -> tuple[float, float] | None:
        """Of the mean, 95%; None for one run of an unknown number of test rows."""
        rows = cell[0].test_rows or 0
        if len(cell) < 2 and not rows:
            return None
        return seeds_interval([run.accuracy for run in cell], round(cell[0].accuracy * rows), rows)

    def rule(self, name: str, size: float) -> float | None:
        """The accuracy of a rule learnt from so many rows, the mean over seeds; None where it is not known."""
        of_rule = [run for run in self.rules if run.method == name]
        known = [run for run in of_rule if self.size_of(run) in (size, 0)]
        if not of_rule and name == TEACHER:
            known = [run for run in self.students if run.teacher_accuracy is not None]
            return statistics.fmean(run.teacher_accuracy for run in known) if known else None
        return statistics.fmean(run.accuracy for run in known) if known else None

    @functools.cached_property
    def rule_names(self) -> list[str]:
        """The rules that have an accuracy at some size, in the order of `RULES`."""
        return [name for name in RULES if any(self.rule(name, size) is not None for size in self.sizes)]

    @property
    def main(self) -> tuple[str, float]:
        """The network and size that most methods have: of several the largest."""

        def rank(place: tuple[str, float]) -> tuple:
            model, size = place
            methods = sum(bool(self.of(arm, model, size)) for arm in self.arms)
            return methods, self.models.index(model), size

        return max(((model, size) for model in self.models for size in self.sizes), key=rank)

    def main_runs(self, what: str) -> dict[str, list[Run]]:
        """The runs of each arm in the main cell that have an attribute, such as `rows`."""
        found = {arm: [run for run in self.of(arm, *self.main) if getattr(run, what)] for arm in self.arms}
        return {arm: runs for arm, runs in found.items() if runs}

    def tests(self) -> list[Pair]:
        """Each pair of methods in each cell that both have."""
        found = []
        for model in self.models:
            for size in self.sizes:
                present = [arm for arm in self.arms if self.of(arm, model, size)]
                for place, first in enumerate(present):
                    found += [self._test(first, second, model, size) for second in present[place + 1 :]]
        return found

    def _test(self, first: str, second: str, model: str, size: float) -> Pair:
        runs = (self.of(arm, model, size) for arm in (first, second))
        return Pair(first, second, model, size, *compared(*runs))

    def _is_sure(self, arm: str, model: str, size: float) -> bool:
        """Whether all of the 95% interval is beyond the teacher's accuracy."""
        interval = self.interval(self.of(arm, model, size))
        return interval is not None and interval[0] > self.rule(TEACHER, size)

    def passing(self) -> list[str]:
        """For each method and network, with how much data it passes the teacher, or that it does not."""
        lines = []
        for arm in self.arms:
            for model in self.models:
                sizes = [size for size in self.sizes if self.of(arm, model, size)]
                sizes = [size for size in sizes if self.rule(TEACHER, size) is not None]
                if not sizes:
                    continue
                name = f"{arm} ({model})" if len(self.models) > 1 else arm
                ahead = [s for s in sizes if self.mean(self.of(arm, model, s)) > self.rule(TEACHER, s)]
                if not ahead:
                    best = max(self.mean(self.of(arm, model, size)) for size in sizes)
                    lines.append(f"{name} does not pass the teacher: at best {best:.1%}.")
                    continue
                sure = next((size for size in ahead if self._is_sure(arm, model, size)), None)
                reached = f"the teacher's {self.rule(TEACHER, ahead[0]):.1%} with {self.size_name(ahead[0])}"
                words = accuracy_words(self, self.of(arm, model, ahead[0]))
                if sure == ahead[0]:
                    lines.append(f"{name} passes {reached}: {words}.")
                    continue
                line = f"{name} reaches {reached}, not beyond the 95% interval: {words}"
                if sure is not None:
                    line += f"; passes it with {self.size_name(sure)}: "
                    line += accuracy_words(self, self.of(arm, model, sure))
                lines.append(f"{line}.")
        return lines


def compared(first: Sequence[Run], second: Sequence[Run]) -> tuple[float, float | None, str]:
    """Of two cells, over the seeds that both have: see `Pair`'s difference, p and how."""
    cells = [{run.seed: run for run in runs} for runs in (first, second)]
    seeds = sorted(cells[0].keys() & cells[1].keys())
    if not seeds:
        means = [statistics.fmean(run.accuracy for run in runs) for runs in (first, second)]
        return means[1] - means[0], None, "no seed in common"
    pairs = [[cell[seed] for seed in seeds] for cell in cells]
    accuracies = [[run.accuracy for run in runs] for runs in pairs]
    difference = statistics.fmean(accuracies[1]) - statistics.fmean(accuracies[0])
    correct = [runs[0].correct for runs in pairs]
    if len(seeds) > 1:
        how = f"Student's paired, {len(seeds)} seeds"
    elif None in correct or len(correct[0]) != len(correct[1]):
        return difference, None, "one seed, no predictions"
    else:
        how = f"McNemar, {len(correct[0]):,} rows of one seed"
    return difference, seeds_p(*accuracies, correct), how


def accuracy_words(cells: Cells, cell: Sequence[Run]) -> str:
    """`66.5% (63.7 to 69.4), 5 seeds`."""
    interval, seeds = cells.interval(cell), len(cell)
    between = "" if interval is None else f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return f"{cells.mean(cell):.1%}{between}, {seeds} seed{'s' * (seeds > 1)}"


def p_words(p: float | None) -> str:
    """A p value as text."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_is(p: float) -> str:
    """As `p_words`, within a sentence: `p = 0.003`, `p < 0.001`."""
    return f"p {'' if p < 0.001 else '= '}{p_words(p)}"
