"""Active annotation against random choice: accuracy over the number of rows that the teacher was asked for.

    python benchmarks/active_annotation.py --seeds 3 --output docs/active.md

A teacher T5 is trained on the embedded task, served over HTTP and asked for a pool of rows once: whoever asks
for a row afterwards reads it from the store, and it counts as a call of the one who asks. Of each seed both
ways begin with the same rows, drawn at random; then, round by round, the one asks for the rows that
the student it has just trained is least sure of, the other for as many at random, and both train a new
student on all rows they have. The figures are kept in `--folder`: the same command goes on from there.
"""

import argparse
import collections
import json
import pathlib
import tempfile
from collections.abc import Sequence

import jax
import numpy as np
from distill_jax.experiments.demo import annotations, students
from distill_jax.tasks import registry

from distill_jax.data.selection import share
from distill_jax.decoding.predictor import Predictor
from distill_jax.decoding.select import at_random, uncertainties
from distill_jax.scoring.uncertainty import MEASURES, least_sure
from distill_jax.teachers.rows import task_or_file

TASK = students.SETTINGS.task
METHOD = students.METHODS["step_by_step"]
WAYS = ("random", "active")


class Pool:
    """The annotated rows, and the runs of the students that are trained on some of them.

    Args:
      folder: for all files.
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
            rows = task_or_file(TASK)
            self.figures = annotations.annotate(served, rows, ids, folder / "completions.jsonl", path)
        self.rows = {row["id"]: row for row in annotations.read_rows(path)}
        self.examples = [e for e in self.task.source.examples("train") if e.id in self.rows]

    def student(self, name: str, seed: int, ids: Sequence[str]) -> pathlib.Path:
        """The run of a student that is trained on the teacher's answers for these rows."""
        data = annotations.own_data(self.task, [self.rows[i] for i in ids], self.runs / "data", name)
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
            **data,
        )
        return run

    def more(self, way: str, run: pathlib.Path, have: Sequence[str], count: int, seed: int) -> list[str]:
        """Ids of the rows to ask for next."""
        had = set(have)
        left = [example for example in self.examples if example.id not in had]
        if way == "random":
            return at_random(left, count, seed)
        predictor = Predictor(str(run), batch_size=250)
        return [row.id for row in least_sure(uncertainties(predictor, left, self._measure), count)]


def curve(pool: Pool, way: str, seed: int, budgets: Sequence[int], done: "Done") -> None:
    """Trains a student at every budget, and notes how good it is."""
    ids = at_random(pool.examples, budgets[0], seed)
    for place, budget in enumerate(budgets):
        # Both ways begin with the same rows, so with the same student.
        name = f"{way if place else 'start'}_{seed}_{budget}"
        run = pool.student(name, seed, ids)
        if name not in done.accuracies:
            done.add(name, students.label_accuracy(run, "test"))
        if place + 1 < len(budgets):
            ids += pool.more(way, run, ids, budgets[place + 1] - budget, 1000 * seed + budget)
    labels = collections.Counter(pool.rows[i]["label"] for i in ids[budgets[0] :])
    done.asked[f"{way}_{seed}"] = {name: labels[name] / labels.total() for name in pool.task.classes}


class Done:
    """Accuracies by the name of the run, on the disk as soon as they are known."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.accuracies: dict[str, float] = {}
        self.asked: dict[str, dict[str, float]] = {}  # shares of the reference labels among the rows asked for
        if path.exists():
            self.accuracies = json.loads(path.read_text())

    def add(self, name: str, accuracy: float) -> None:
        self.accuracies[name] = accuracy
        self._path.write_text(json.dumps(self.accuracies, indent=2) + "\n")
        print(f"{name} {accuracy:.3f}", flush=True)

    def table(self, budgets: Sequence[int], seeds: int) -> dict[str, np.ndarray]:
        """Accuracies of each way, [seeds, budgets]."""

        def of(way: str, seed: int, place: int) -> float:
            return self.accuracies[f"{way if place else 'start'}_{seed}_{budgets[place]}"]

        return {
            way: np.array([[of(way, s, p) for p in range(len(budgets))] for s in range(seeds)]) for way in WAYS
        }


def calls_to_reach(budgets: Sequence[int], means: Sequence[float], target: float) -> float | None:
    """Calls at which a curve of straight lines first comes to a target; None where it does not."""
    for place, mean in enumerate(means):
        if mean >= target:
            if place == 0:
                return float(budgets[0])
            before = means[place - 1]
            part = (target - before) / (mean - before)
            return budgets[place - 1] + part * (budgets[place] - budgets[place - 1])
    return None


def statement(budgets: Sequence[int], table: dict[str, np.ndarray]) -> str:
    """Whether active annotation reaches random's accuracy with fewer calls."""
    means = {way: table[way].mean(0) for way in WAYS}
    target = float(means["random"].max())
    random_calls = calls_to_reach(budgets, means["random"], target)
    active_calls = calls_to_reach(budgets, means["active"], target)
    gains = 100 * (table["active"] - table["random"])[:, 1:]
    better = int((gains > 0).sum())
    per_seed = gains.mean(1)
    spread = f"; by seed {', '.join(f'{gain:+.1f}' for gain in per_seed)}"
    ahead = f"It is ahead in {better} of {gains.size} pairs, by {gains.mean():+.1f} points in the mean{spread}."
    if active_calls is None:
        best = means["active"].max()
        return (
            f"**No.** Random choice comes to {target:.1%} with {random_calls:,.0f} calls; active annotation to "
            f"{best:.1%} at the most, with all {budgets[-1]:,}. {ahead}"
        )
    saved = 1.0 - active_calls / random_calls
    word = (
        "Yes"
        if saved > 0 and per_seed.min() > 0
        else "In the mean, but not for every seed"
        if saved > 0
        else "No"
    )
    return (
        f"**{word}.** Random choice comes to its best mean, {target:.1%}, with {random_calls:,.0f} calls; "
        f"active annotation to the same with {active_calls:,.0f} (between the budgets by a straight line): "
        f"{saved:.0%} fewer. {ahead}"
    )


TEXT = """# Active annotation

Made by:

```sh
python benchmarks/active_annotation.py --pool {pool} --budgets {budgets} --steps {steps} \\
  --seeds {seeds} --measure {measure} --output docs/active.md
```

Does it pay to ask the teacher for the rows that the student is least sure of? The embedded task
`entailment`, a pool of {pool} rows, the demo's student, `step_by_step` on the teacher's labels and
reasons, {steps} steps of 32 examples from scratch in every round. The teacher, a larger T5 behind
`serve`, is right on {accuracy:.1%} of the pool. Both ways begin with the same {first} rows at random.
*Active* then takes the rows that are least sure by `{measure}` under the student of the round before,
*random* as many at random. A call is a row that is asked for; a student is trained on all rows that
its way has asked for.

Accuracy on 1,000 test rows, the mean of {seeds} seeds (each with its own first rows, parameters and
order), and each seed:

| calls | random | each seed | active | each seed | gain |
| ---: | ---: | --- | ---: | --- | ---: |
"""


def page(arguments: argparse.Namespace, pool: Pool, done: Done) -> str:
    """The figures as Markdown."""
    budgets, table = arguments.budgets, done.table(arguments.budgets, arguments.seeds)
    text = TEXT.format(
        pool=len(pool.rows),
        budgets=",".join(map(str, budgets)),
        first=budgets[0],
        steps=arguments.steps,
        seeds=arguments.seeds,
        measure=arguments.measure,
        accuracy=pool.figures["accuracy"]["value"],
    )
    for place, budget in enumerate(budgets):
        cells, means = [f"{budget:,}"], []
        for way in WAYS:
            values = table[way][:, place]
            means.append(values.mean())
            cells += [f"{means[-1]:.1%}", " / ".join(f"{100 * value:.1f}" for value in values)]
        cells.append(f"{100 * (means[1] - means[0]):+.1f}" if place else "")
        text += f"| {' | '.join(cells)} |\n"
    shares = {
        way: {
            name: np.mean([done.asked[f"{way}_{seed}"][name] for seed in range(arguments.seeds)])
            for name in pool.task.classes
        }
        for way in WAYS
    }
    told = {way: ", ".join(f"{name} {share:.0%}" for name, share in of.items()) for way, of in shares.items()}
    text += f"\nDoes active annotation reach random's accuracy with fewer calls? {statement(budgets, table)}\n"
    text += f"\nGold labels of the rows asked for after the first: active {told['active']}; "
    text += f"random {told['random']}.\n"
    return text


def _budgets(text: str) -> list[int]:
    budgets = [int(part) for part in text.split(",")]
    if len(budgets) < 2 or budgets[0] < 1 or budgets != sorted(set(budgets)):
        raise ValueError
    return budgets


def main() -> None:
    """Runs both ways and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=4_000)
    parser.add_argument("--budgets", type=_budgets, default=[500, 1000, 2000], help="calls, rising")
    parser.add_argument("--steps", type=int, default=students.SETTINGS.steps)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--measure", choices=sorted(MEASURES), default="margin")
    parser.add_argument("--teacher", type=pathlib.Path, help="a run of `entailment_step_by_step` to take")
    parser.add_argument("--folder", help="for all files, to go on from; default a temporary one")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/active.md"))
    arguments = parser.parse_args()
    if arguments.pool < arguments.budgets[-1] or arguments.seeds < 1:
        parser.error("expected a pool of at least the last budget, and 1 seed or more")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(arguments.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        # Every run of a student compiles the same programs.
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        pool = Pool(folder, arguments.teacher, arguments.pool, arguments.measure, arguments.steps)
        done = Done(pool.runs / "accuracies.json")
        for seed in range(arguments.seeds):
            for way in WAYS:
                curve(pool, way, seed, arguments.budgets, done)
        text = page(arguments, pool, done)
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
