"""Active annotation against random choice: accuracy by the number of rows that the teacher was asked for.

    python -m distill_jax.experiments.active_annotation --seeds 3

A teacher T5 is trained on the embedded task, served over HTTP, and asked for a pool of rows once. Later
requests are answered from the store, and count as a call all the same. For each seed both ways begin with the
same rows, drawn at random. Then, round by round, *active* asks for the rows that its last student is least
sure of, *random* for as many at random, and each trains a new student on all rows that it has asked for. With
`--folder` the same command resumes where it was stopped.
"""

import argparse
import collections
import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill_jax.data.selection import share
from distill_jax.decoding.predictor import Predictor
from distill_jax.decoding.select import at_random, uncertainties
from distill_jax.experiments import results
from distill_jax.experiments.demo import annotations, students
from distill_jax.scoring.uncertainty import MEASURES, least_sure
from distill_jax.tasks import registry
from distill_jax.training.programs import keep_compiled

TASK = students.SETTINGS.task
METHOD = students.METHODS["step_by_step"]
WAYS = ("random", "active")


class Pool:
    """The annotated rows, and the runs of the students that are trained on some of them.

    Args:
      folder: of all files.
      teacher: the run of the teacher; None trains one.
      size: rows of the pool.
      measure: of `uncertainty.MEASURES`.
      steps: of a student's training.
    """

    def __init__(self, folder: pathlib.Path, teacher: pathlib.Path | None, size: int, measure: str, steps: int):
        self._measure, self._steps = measure, steps
        self.runs = folder / f"pool-{size}-{measure}-{steps}"
        self.runs.mkdir(parents=True, exist_ok=True)
        self.teacher = teacher or folder / "teacher"
        if teacher is None:
            students.train_teacher(self.teacher, **METHOD.packing())
        self.task = registry.get_task(TASK)
        ids = {example.id for _, example in share(self.task.source, "train", 1.0, size, 0)}
        path = folder / "pool.jsonl"
        with annotations.served(self.teacher) as served:
            self.figures = annotations.annotate(served, self.task, ids, folder / "completions.jsonl", path)
        self.rows = {row["id"]: row for row in annotations.read_rows(path)}
        self.examples = [e for e in self.task.source.examples("train") if e.id in self.rows]
        self._scores = Scores(self.runs / "accuracies.json")

    def train(self, name: str, seed: int, ids: Sequence[str]) -> tuple[pathlib.Path, float]:
        """The run of a student that is trained on the teacher's answers for these rows, and its accuracy."""
        run = self.runs / name
        students.train(
            run,
            METHOD,
            seed,
            vocabulary=str(self.teacher),
            label_source="teacher",
            train_steps=self._steps,
            checkpoint_period=self._steps,
            **METHOD.packing(),
            **annotations.own_data(self.task, [self.rows[i] for i in ids], self.runs / "data", name),
        )
        return run, self._scores.of(name, run)

    def choose(self, way: str, run: pathlib.Path, asked: Sequence[str], count: int, seed: int) -> list[str]:
        """Ids of the next rows to ask for."""
        known = set(asked)
        rest = [example for example in self.examples if example.id not in known]
        if way == "random":
            return at_random(rest, count, seed)
        predictor = Predictor(str(run), batch_size=250)
        return [row.id for row in least_sure(uncertainties(predictor, rest, self._measure), count)]


class Scores:
    """Accuracies by the name of the run, written to a file as soon as they are known."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._accuracies: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def of(self, name: str, run: pathlib.Path) -> float:
        if name not in self._accuracies:
            self._accuracies[name] = students.label_accuracy(run, "test")
            self._path.write_text(json.dumps(self._accuracies, indent=2) + "\n")
            print(f"{name} {self._accuracies[name]:.3f}", flush=True)
        return self._accuracies[name]


def curve(pool: Pool, way: str, seed: int, budgets: Sequence[int]) -> tuple[list[float], dict[str, float]]:
    """The accuracy at every budget, and the share of each reference label in rows chosen after the first."""
    ids, accuracies = at_random(pool.examples, budgets[0], seed), []
    for place, budget in enumerate(budgets):
        # Both ways begin with the same rows, so with the same student.
        run, accuracy = pool.train(f"{way if place else 'start'}_{seed}_{budget}", seed, ids)
        accuracies.append(accuracy)
        if place + 1 < len(budgets):
            ids += pool.choose(way, run, ids, budgets[place + 1] - budget, 1000 * seed + budget)
    labels = collections.Counter(pool.rows[i]["label"] for i in ids[budgets[0] :])
    return accuracies, {name: labels[name] / labels.total() for name in pool.task.classes}


def compare(pool: Pool, budgets: Sequence[int], seeds: int) -> dict[str, Any]:
    """Both ways with every seed: `accuracies` [seeds, budgets] and mean shares of `labels`, each by way."""
    accuracies, labels = {}, {}
    for way in WAYS:
        curves = [curve(pool, way, seed, budgets) for seed in range(seeds)]
        accuracies[way] = [found for found, _ in curves]
        labels[way] = {
            name: float(np.mean([shares[name] for _, shares in curves])) for name in pool.task.classes
        }
    return {"accuracies": accuracies, "labels": labels}


def calls_to_reach(budgets: Sequence[int], means: Sequence[float], target: float) -> float | None:
    """Calls at which a curve, linear between budgets, first reaches a target; None if it does not."""
    for place, mean in enumerate(means):
        if mean >= target:
            if place == 0:
                return float(budgets[0])
            before = means[place - 1]
            part = (target - before) / (mean - before)
            return budgets[place - 1] + part * (budgets[place] - budgets[place - 1])
    return None


def statement(budgets: Sequence[int], table: Mapping[str, np.ndarray]) -> str:
    """Whether active annotation reaches random's accuracy with fewer calls."""
    means = {way: table[way].mean(0) for way in WAYS}
    target = float(means["random"].max())
    random_calls = calls_to_reach(budgets, means["random"], target)
    active_calls = calls_to_reach(budgets, means["active"], target)
    gains = 100 * (table["active"] - table["random"])[:, 1:]
    by_seed = gains.mean(1)
    ahead = (
        f"It is ahead in {int((gains > 0).sum())} of {gains.size} pairs, by {gains.mean():+.1f} points in the "
        f"mean; by seed {', '.join(f'{gain:+.1f}' for gain in by_seed)}."
    )
    if active_calls is None:
        return (
            f"**No.** Random choice reaches {target:.1%} with {random_calls:,.0f} calls; active annotation at "
            f"most {means['active'].max():.1%}, with all {budgets[-1]:,}. {ahead}"
        )
    saved = 1.0 - active_calls / random_calls
    answer = "No" if saved <= 0 else "Yes" if by_seed.min() > 0 else "In the mean, but not for every seed"
    return (
        f"**{answer}.** Random choice reaches its best mean, {target:.1%}, with {random_calls:,.0f} calls; "
        f"active annotation reaches it with {active_calls:,.0f} (linear between the budgets): {saved:.0%} "
        f"fewer. {ahead}"
    )


TEXT = """# Active annotation

Made by:

```sh
python -m distill_jax.experiments.active_annotation --pool {pool} --budgets {budgets_text} --steps {steps} \\
  --seeds {seeds} --measure {measure}
```

Is it worth asking the teacher for the rows that the student is least sure of? The embedded task `entailment`,
a pool of {pool:,} rows, the demo's student, `step_by_step` on the teacher's labels and rationales, {steps}
steps of 32 examples from scratch in every round. The teacher is a larger T5 behind `serve`; {teacher:.1%} of
its labels on the pool are right. Both ways begin with the same {first} random rows. *Active* then asks for
the rows of which the student of the round before is least sure by `{measure}`, *random* for as many random
ones. A call is a row that is asked for; a student is trained on all rows that its way has asked for.

Accuracy on 1,000 test rows, the mean of {seeds} seeds (each with its own first rows, parameters and order), and
each seed:

| calls | random | each seed | active | each seed | gain |
| ---: | ---: | --- | ---: | --- | ---: |
"""


def page(figures: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    budgets = figures["budgets"]
    text = TEXT.format(**figures, budgets_text=",".join(map(str, budgets)), first=budgets[0])
    table = {way: np.array(figures["accuracies"][way]) for way in WAYS}
    for place, budget in enumerate(budgets):
        cells = [f"{budget:,}"]
        for way in WAYS:
            accuracies = table[way][:, place]
            cells += [f"{accuracies.mean():.1%}", " / ".join(f"{100 * value:.1f}" for value in accuracies)]
        gain = 100 * (table["active"] - table["random"])[:, place].mean()
        cells.append(f"{gain:+.1f}" if place else "")
        text += f"| {' | '.join(cells)} |\n"
    shares = {
        way: ", ".join(f"{name} {share:.0%}" for name, share in figures["labels"][way].items()) for way in WAYS
    }
    text += f"\nDoes active annotation reach random's accuracy with fewer calls? {statement(budgets, table)}\n"
    text += f"\nReference labels of the rows asked for after the first: active {shares['active']}; "
    return text + f"random {shares['random']}.\n"


def _budgets(text: str) -> list[int]:
    budgets = [int(part) for part in text.split(",")]
    if len(budgets) < 2 or budgets[0] < 1 or budgets != sorted(set(budgets)):
        raise ValueError
    return budgets


def main(argv: Sequence[str] | None = None) -> None:
    """Runs both ways, and writes the figures and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=4_000, help="rows")
    parser.add_argument("--budgets", type=_budgets, default=[500, 1000, 2000], help="calls, rising")
    parser.add_argument("--steps", type=int, default=students.SETTINGS.steps)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--measure", choices=sorted(MEASURES), default="margin")
    parser.add_argument("--teacher", type=pathlib.Path, help="a run of `entailment_step_by_step` to use")
    parser.add_argument("--folder", help="of all files, to resume from; default a temporary one")
    results.add_flags(parser, "active")
    args = parser.parse_args(argv)
    if args.pool < args.budgets[-1] or args.seeds < 1:
        parser.error("expected a pool of at least the last budget, and 1 seed or more")

    def run() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(args.folder or temporary)
            folder.mkdir(parents=True, exist_ok=True)
            keep_compiled()  # every run of a student needs the same programs
            pool = Pool(folder, args.teacher, args.pool, args.measure, args.steps)
            figures = {name: getattr(args, name) for name in ("budgets", "steps", "seeds", "measure")}
            figures |= {"pool": len(pool.rows), "teacher": pool.figures["accuracy"]["value"]}
            return figures | compare(pool, args.budgets, args.seeds)

    results.deliver(args, run, page)


if __name__ == "__main__":
    main()
