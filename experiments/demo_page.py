"""README's part about the demo, and docs/demo.md, from the files in experiments/results/.

distill-jax demo --seeds 5 --output experiments/results/demo
python -m distill_jax.experiments.demo_page
"""

import collections
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.experiments import floors, results
from distill_jax.experiments.demo import summary
from distill_jax.experiments.demo.experiment import ARMS
from distill_jax.experiments.report.tables import markdown

DEMO = results.FOLDER / "demo" / "results.json"
RATES = results.FOLDER / "demo_rates.json"
ESNLI = results.FOLDER / "floors_esnli_small.json"
README, PAGE = pathlib.Path("README.md"), pathlib.Path("docs/demo.md")
MARKS = "<!-- demo -->\n", "<!-- /demo -->"


def statement(runs: summary.Results) -> str:
    """Where step-by-step is ahead or behind by more than chance, at p below 0.05."""
    ours, *others = ARMS
    told = []
    for other in others:
        verdicts = collections.defaultdict(list)
        for size in summary.sizes(runs):
            gain = summary.mean(runs, ours, size) - summary.mean(runs, other, size)
            is_chance = summary.p_value(runs, other, ours, size) >= 0.05
            verdicts["not told apart from" if is_chance else "ahead of" if gain > 0 else "behind"].append(size)
        for verdict, sizes in verdicts.items():
            told.append(f"{verdict} {summary.NAMES[other]} with {_and([f'{n:,}' for n in sizes])} rows")
    return f"Step-by-step is {_and(told)}."


def over_the_floor(runs: summary.Results) -> str:
    """What each method gains over the best of the rules that know nothing, by size."""
    sizes = summary.sizes(runs)
    present = {run["method"] for run in runs}
    rules = [(name, "no student") for name in ("majority", "wording", "words", "lookup") if name in present]
    floors = [max(summary.mean(runs, rule, size) for rule in rules) for size in sizes]
    gains = []
    for arm in ARMS:
        points = [
            100 * (summary.mean(runs, arm, size) - floor) for size, floor in zip(sizes, floors, strict=True)
        ]
        gains.append(f"{summary.NAMES[arm]} {_and([f'{each:+.1f}' for each in points])}")
    best = _and([f"{floor:.1%}" for floor in floors])
    return f"Points over the best rule without knowledge, {best}, by the number of rows: {'; '.join(gains)}."


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def minutes_a_seed(runs: summary.Results) -> float:
    """Processor minutes of training, by seed; of a run that is scored twice those of its last score."""
    spent: dict[tuple, float] = {}
    for run in runs:
        if "processor_seconds" in run:
            key = run["seed"], run["method"], run["train_examples"], run["learning_rate"]
            spent[key] = max(spent.get(key, 0.0), run["processor_seconds"])
    return sum(spent.values()) / len({run["seed"] for run in runs}) / 60


README_TEXT = """Generated premise/hypothesis pairs (`tasks/entailment.py`): two things that somebody
has, and the claim that they are of one kind. The label says whether the kinds agree; the reason names
them. No pair of words is in two splits, so what kind a word is of must be learnt from other pairs. A T5
1.1 of 0.3M parameters learns it from scratch. Label accuracy on {rows:,} test rows
(`distill-jax demo --seeds {seeds}`, {minutes:.1f} processor minutes of training a seed):

{table}
{how} {statement} {over}

*Equal steps*: {steps} updates of about 32 examples. *Equal compute*: standard trains for {more:,} steps,
where its FLOPs are those of step-by-step, which reads every input twice and writes the reasons too. The
learning rates come from one search on validation, at each budget and size. The *floor* is what the
wording alone gives ("something else" means neutral, the rest is one class). The *lookup* finds no pair of
test in train, and falls back to the wording. *Joined up* is told what no student is: that two words of
one kind with a third are of one kind. So the labels do carry the kinds, but are a bit on two unknown ones
each; the reasons name them. [docs/demo.md](docs/demo.md) tells how the task was chosen.
"""


def readme(figures: Mapping[str, Any]) -> str:
    """README's part, without the marks."""
    runs = figures["runs"]
    steps = {run["comparison"]: run["steps"] for run in runs if "steps" in run}
    return README_TEXT.format(
        rows=len(runs[0]["correct"]),
        seeds=len({run["seed"] for run in runs}),
        minutes=minutes_a_seed(runs),
        table=markdown(*summary.table(runs)),
        how=summary.how(runs),
        statement=statement(runs),
        over=over_the_floor(runs),
        steps=steps["equal steps"],
        more=steps["equal compute"],
    )


PAGE_TEXT = """# The demo's figures

Made by:

```sh
python -m distill_jax.experiments.demo_rates
distill-jax demo --seeds {seeds} --output experiments/results/demo
python -m distill_jax.experiments.floors esnli_small --data-dir ../shared/datasets
python -m distill_jax.experiments.demo_page
```

{table}
{how} {statement} {over}

## The task, and why it is so

An earlier task was split by whole input. A lookup of the pairs of words in train then answered most of
test, and was above every student. Now the pairs are dealt out: every word meets the others of its kind in
the rounds of a tournament, and each round belongs to one split; likewise with the words of every other
kind. So each word stands equally often in rows of either label, in every split, and neither a pair nor a
word says anything. The classes have the shares 2 : 1 : 2 in every split, also in its first rows. A split
can have as many rows as `limit` of `tasks.entailment.source()` tells; more is one error.

What the reasons carry here is an intermediate step, the kind of each word, in every row, where a label is
one bit on two unknown kinds. Tried and not taken: words of test that stand in train only as a third
thing, which the reason names and no label judges. A student then learns to name their kinds, and its
labels stay at the floor: what it was never asked to compare, it does not compare. Not measured:
`arithmetic`, whose label is copied from the input.

## The rules beside the methods

| rule | learnt from the same rows of train |
| --- | --- |
| majority class | the most frequent label |
| the wording alone | the most frequent label of the same frame: the words that a tenth of the inputs have |
| regression on words | logistic regression on single words |
| lookup | the label of the same input, else of the same pair, else of the same wording |
| joined up | two words of one kind with a third are of one kind, all others of two |

## Each seed

{each}
## Learning rates

Accuracy on validation, mean of {rate_seeds} seed(s) that the demo does not use. The best of each line is
the demo's; where all are at the floor, that is chance.

{rates}
## Real data

The same rules on `{task}`, accuracy on {rows:,} rows of {split}. `words` is a logistic regression on the
words of the hypothesis, with those that the premise lacks: a student below it has learnt nothing that
they do not give away.

{floors}"""


def page(figures: Mapping[str, Any], rates: Mapping[str, Any], real: Mapping[str, Any]) -> str:
    """docs/demo.md, from the figures of the demo, of the search, and of the rules on real data."""
    runs = figures["runs"]
    each = [
        [summary.NAMES[key], f"{size:,}", " / ".join(f"{100 * a:.1f}" for a in _accuracies(runs, key, size))]
        for key in ARMS
        for size in summary.sizes(runs)
    ]
    return PAGE_TEXT.format(
        seeds=len({run["seed"] for run in runs}),
        table=markdown(*summary.table(runs)),
        how=summary.how(runs),
        statement=statement(runs),
        over=over_the_floor(runs),
        each=markdown(["method", "rows", "accuracy"], each),
        rate_seeds=len({run["seed"] for run in rates["runs"]}),
        rates=markdown(*_rates(rates["runs"])),
        task=real["task"],
        split=real["split"],
        rows=real["floors"][0]["rows"],
        floors=markdown(*floors.table(real)),
    )


def _accuracies(runs: summary.Results, key: tuple[str, str], size: int) -> list[float]:
    return [run["accuracy"] for run in summary.of(runs, key, size)]


def _rates(runs: summary.Results) -> tuple[list[str], list[list[str]]]:
    tried = sorted({run["learning_rate"] for run in runs})
    rows = []
    for key in ARMS:
        for size in summary.sizes(runs):
            found = summary.of(runs, key, size)
            means = [statistics.fmean(r["accuracy"] for r in found if r["learning_rate"] == t) for t in tried]
            rows.append([summary.NAMES[key], f"{size:,}", *(f"{mean:.1%}" for mean in means)])
    return ["method", "rows", *(f"{rate:g}" for rate in tried)], rows


def read(path: pathlib.Path) -> Any:
    """The figures of a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Writes both pages."""
    for path in (DEMO, RATES, ESNLI):
        if not path.exists():
            raise SystemExit(f"error: no figures in {path}; the head of {PAGE} has the commands that make them")
    results.replace_part(README, MARKS, readme(read(DEMO)))
    PAGE.write_text(page(read(DEMO), read(RATES), read(ESNLI)), encoding="utf-8")
    print(f"{README} and {PAGE}")


if __name__ == "__main__":
    main()
