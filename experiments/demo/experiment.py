"""The runs of the demo: one student, two methods, several training-set sizes, one or more seeds.

Both methods start from the same random student and see the same examples, about as many in a batch. A step of
step-by-step costs more, since it trains on two views of an example. So standard fine-tuning is scored twice: at
the same number of steps, and at equal FLOPs, as XLA counts them. Each has its own learning rate at each of
these budgets and sizes, chosen by one search on validation (`experiments.demo_rates`). Beside them stand the
rules that know nothing (`scoring.floors`), on the same rows.
"""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from distill_jax.data.loader import Loader
from distill_jax.data.prepare import Prepared, prepare
from distill_jax.data.schema import Example
from distill_jax.data.selection import share
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.evaluation.evaluator import Evaluator
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.scoring import floors
from distill_jax.tasks import entailment, registry
from distill_jax.training import losses, optimizers, schedules, train_state
from distill_jax.training.step import make_train_step

METHODS = ("standard", "step_by_step")
# What is reported: (method, budget).
ARMS = (("step_by_step", "equal steps"), ("standard", "equal steps"), ("standard", "equal compute"))


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a comparison.

    Attributes:
      task: an embedded task.
      split: scored.
      train_sizes: numbers of training examples.
      steps: updates of step-by-step, and of standard at equal steps.
      learning_rates: by method, budget and training-set size, constant after `warmup_steps`; chosen on the
        validation split (`experiments.demo_rates`). Of another size than these, that of the nearest.
      b2: of AdamW; with 0.999 so few steps learn much less.
      alpha: weight of the label loss in step-by-step.
      vocabulary: trained on the task's text.
      student: shape of the T5.
      rows: packed rows of a batch, by method, for about the same number of examples.
      lengths: tokens of a packed row, by method.
    """

    task: str = "entailment"
    split: str = "test"
    train_sizes: tuple[int, ...] = (1000, 4000)
    steps: int = 600
    learning_rates: Mapping[str, Mapping[str, Mapping[int, float]]] = dataclasses.field(
        default_factory=lambda: {
            "step_by_step": {"equal steps": {1000: 2e-3, 4000: 1e-3}},
            "standard": {"equal steps": {1000: 2e-3, 4000: 2e-3}, "equal compute": {1000: 1e-3, 4000: 1e-3}},
        }
    )
    warmup_steps: int = 20
    b2: float = 0.95
    alpha: float = 0.5
    vocabulary: str = "train:1000"
    student: T5Config = T5Config(
        vocab_size=1024,
        emb_dim=64,
        num_heads=4,
        num_encoder_layers=2,
        num_decoder_layers=1,
        head_dim=16,
        mlp_dim=128,
        mlp_activations=("gelu", "linear"),
        dropout_rate=0.0,
    )
    rows: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"standard": 16, "step_by_step": 32})
    lengths: Mapping[str, Mapping[str, int]] = dataclasses.field(
        default_factory=lambda: {
            "standard": {"inputs": 42, "targets": 4},
            "step_by_step": {"inputs": 48, "targets": 16},
        }
    )

    def rate(self, method: str, budget: str, size: int) -> float:
        """The learning rate of a method at a budget, for so many training examples."""
        rates = self.learning_rates[method][budget]
        return rates[min(rates, key=lambda known: abs(known - size))]


class Comparison:
    """One compiled step per method and learning rate, shared by all sizes and seeds."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.model = Transformer(settings.student)
        self._compiled: dict[tuple[str, float], Any] = {}

    def _prepared(self, method: str, size: int, seed: int) -> Prepared:
        return prepare(
            *registry.resolve(f"{self.settings.task}_{method}"),
            "train",
            vocabulary=self.settings.vocabulary,
            task_feature_lengths=self.settings.lengths[method],
            num_examples=size,
            seed=seed,
        )

    def _state(self, rate: float, seed: int) -> train_state.TrainState:
        return train_state.create(train_state.init_params(self.model, seed), self._optimizer(rate))

    def _optimizer(self, rate: float) -> optax.GradientTransformation:
        schedule = schedules.constant(rate, self.settings.warmup_steps)
        return optimizers.adamw(schedule, b2=self.settings.b2)

    def compiled(self, method: str, rate: float) -> Any:
        """The compiled step of a method; its `cost_analysis` counts the FLOPs."""
        if (method, rate) not in self._compiled:
            records = self._prepared(method, self.settings.train_sizes[0], 0)
            batch = next(Loader(records.path, self.settings.rows[method], seed=0))
            shapes = jax.eval_shape(lambda: self._state(rate, 0))
            weights = {
                "standard": losses.standard_weights(),
                "step_by_step": losses.step_by_step_weights(self.settings.alpha),
            }
            step_fn = make_train_step(self.model, self._optimizer(rate), weights[method])
            self._compiled[method, rate] = step_fn.lower(shapes, batch).compile()
        return self._compiled[method, rate]

    @functools.cached_property
    def equal_compute_steps(self) -> int:
        """Steps of standard that cost the FLOPs of step-by-step's `steps`."""
        size = self.settings.train_sizes[0]
        flops = {
            method: self.compiled(method, self.settings.rate(method, "equal steps", size)).cost_analysis()[
                "flops"
            ]
            for method in METHODS
        }
        return round(self.settings.steps * flops["step_by_step"] / flops["standard"])

    def steps(self, budget: str) -> int:
        """Updates of a budget."""
        return self.settings.steps if budget == "equal steps" else self.equal_compute_steps

    def run(
        self,
        method: str,
        budgets: Sequence[str],
        size: int,
        seed: int,
        rate: float,
        samples: int | None = None,
    ) -> list[dict[str, Any]]:
        """Trains once, and evaluates at each budget.

        Args:
          method: standard or step_by_step.
          budgets: of `ARMS`.
          size: training examples.
          seed: of the parameters, of the choice of examples and of their order.
          rate: learning rate.
          samples: test rows to predict rationales of too; None for no rows and no curve in the results.

        Returns:
          A result for each budget; with `samples` also its `rows` of predictions and its `curve` of losses.
        """
        records = self._prepared(method, size, seed)
        step_fn = self.compiled(method, rate)
        loader = Loader(records.path, self.settings.rows[method], seed=seed)
        marks = {self.steps(budget): budget for budget in budgets}
        state, results, curve = self._state(rate, seed), [], []
        costs = {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            "flops": step_fn.cost_analysis()["flops"],
        }
        seconds, began = np.zeros(2), np.array([time.monotonic(), time.process_time()])
        for step in range(1, max(marks) + 1):
            state, metrics = step_fn(state, next(loader))
            if step % 20 == 0:  # which also waits: XLA on CPU queues steps without bound
                curve.append({"step": step, "train/loss": float(metrics["loss"])})
            if step in marks:
                jax.block_until_ready(state.params)
                seconds += np.array([time.monotonic(), time.process_time()]) - began
                result = {
                    "method": method,
                    "comparison": marks[step],
                    "train_examples": size,
                    "seed": seed,
                    "learning_rate": rate,
                    "steps": step,
                    "seconds": round(float(seconds[0]), 2),
                    "processor_seconds": round(float(seconds[1]), 2),
                    "parameters": costs["parameters"],
                    "flops": costs["flops"] * step,
                }
                rows = self._rows(state.params, method, records.vocabulary, samples or 0)
                result |= _scored([row["correct"] for row in rows])
                results.append(result | ({} if samples is None else {"rows": rows, "curve": list(curve)}))
                began = np.array([time.monotonic(), time.process_time()])
        return results

    def arms(self, size: int, seed: int, samples: int | None = None) -> Iterator[dict[str, Any]]:
        """The results of all of `ARMS`; budgets with the same rate share a run. See `run` for `samples`."""
        for method in dict.fromkeys(method for method, _ in ARMS):
            rates = {b: self.settings.rate(method, b, size) for m, b in ARMS if m == method}
            for rate in dict.fromkeys(rates.values()):
                budgets = [budget for budget, own in rates.items() if own == rate]
                shown = 0 if samples and method != "step_by_step" else samples
                yield from self.run(method, budgets, size, seed, rate, shown)

    def floors(self, size: int, seed: int) -> list[dict[str, Any]]:
        """What the teacher, and rules learnt from the same training rows, reach on the same test rows."""
        task = registry.get_task(self.settings.task)
        train = [example for _, example in share(task.source, "train", 1.0, size, seed)]
        test = list(task.source.examples(self.settings.split))
        rules = floors.predictions(train, test, task.classes, [entailment.asked])
        rules["joined"] = joined(train, test)
        rules["teacher"] = [example.teacher_label for example in test]
        return [
            {"method": name, "comparison": "no student", "train_examples": size, "seed": seed}
            | _scored([task.is_right(*pair) for pair in zip(test, labels, strict=True)])
            for name, labels in rules.items()
        ]

    def _rows(self, params: Any, method: str, vocabulary: str, samples: int) -> list[dict[str, Any]]:
        """The predictions of the test rows; rationales of the first `samples`."""
        task, views = registry.resolve(f"{self.settings.task}_{method}")
        student = {"model": self.model, "vocabulary": load_vocabulary(vocabulary), "task": task}
        student["lengths"] = {"inputs": 64, "targets": 28}
        split, of_labels = self.settings.split, types.SimpleNamespace(**student, views=views[:1])
        rows = Evaluator(of_labels, 250).evaluate(params, split).rows
        if samples:
            whole = types.SimpleNamespace(**student, views=views)
            reasoned = Evaluator(whole, samples, num_examples=samples).evaluate(params, split).rows
            for row, more in zip(rows, reasoned, strict=False):
                row["predicted_rationale"] = more["predicted_rationale"]
        return rows


def joined(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """Labels by what train's labels imply: two words of one kind with a third are of one kind.

    Knows no kinds, but that they are classes, which no student is told: how much the labels alone could tell.
    """
    groups = {word: {word} for word in entailment.KIND_OF}
    for example in train:
        if example.label == "entailment":
            both = set().union(*(groups[word] for word in entailment.asked(example)))
            groups.update(dict.fromkeys(both, both))
    labels = []
    for example in test:
        pair = entailment.asked(example)
        is_one = pair is not None and len({id(groups[word]) for word in pair}) == 1
        labels.append("neutral" if pair is None else "entailment" if is_one else "contradiction")
    return labels


def _scored(correct: Sequence[bool]) -> dict[str, Any]:
    """Accuracy, and whether each row is right as a text of 0 and 1."""
    return {"accuracy": sum(correct) / len(correct), "correct": "".join(str(int(each)) for each in correct)}


def _of_seed(settings: Settings, seed: int, samples: int) -> list[dict[str, Any]]:
    """All results of a seed."""
    comparison, results = Comparison(settings), []
    for size in settings.train_sizes:
        is_largest = size == max(settings.train_sizes)
        results += comparison.arms(size, seed, samples if is_largest else None)
        results += comparison.floors(size, seed)
    return results


def compare(
    settings: Settings, seeds: Sequence[int], on_result: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """All runs of the demo, and the rules beside them; `on_result` is called with each result.

    Several seeds run in processes beside each other, one for each core: so small a student leaves cores idle.
    """
    results = []
    calls = [(settings, seed, 4 if seed == seeds[-1] else 0) for seed in seeds]
    for found in side_by_side(_of_seed, calls):
        results += found
        for result in found:
            on_result(result)
    return results


def side_by_side(
    function: Callable[..., Any], calls: Sequence[tuple], jobs: int | None = None
) -> Iterator[Any]:
    """The results of calls, in their order; of several from `jobs` processes, by default one for each core."""
    if len(calls) < 2:
        yield from (function(*call) for call in calls)
        return
    with concurrent.futures.ProcessPoolExecutor(
        min(len(calls), jobs or os.cpu_count() or 1), multiprocessing.get_context("spawn")
    ) as pool:
        yield from pool.map(function, *zip(*calls, strict=True))
