"""The runs of the demo: one student, two methods, several training-set sizes, one or more seeds.

Both methods start from the same random student and see the same examples, about as many in a batch, each at
its own best learning rate. A step of step-by-step costs more, since it trains on two views of an example. So
standard fine-tuning is scored twice: at the same number of steps, and at equal FLOPs, as XLA counts them.
"""

import dataclasses
import functools
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from distill_jax.data.loader import Loader
from distill_jax.data.prepare import Prepared, prepare
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.evaluation.evaluator import Evaluator
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.tasks import registry
from distill_jax.training import losses, optimizers, schedules, train_state
from distill_jax.training.step import make_train_step

METHODS = ("standard", "step_by_step")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a comparison.

    Attributes:
      task: an embedded task.
      split: scored; the learning rates were chosen on validation (`experiments.demo_rates`).
      train_sizes: numbers of training examples.
      steps: updates of step-by-step, and of standard at equal steps.
      learning_rates: by method, constant after `warmup_steps`.
      b2: of AdamW; with 0.999 so few steps learn much less.
      alpha: weight of the label loss in step-by-step.
      vocabulary: trained on the task's text.
      student: shape of the T5.
      rows: packed rows of a batch, by method, for about the same number of examples.
      lengths: tokens of a packed row, by method.
    """

    task: str = "entailment"
    split: str = "test"
    train_sizes: tuple[int, ...] = (1000, 2000, 4000)
    steps: int = 800
    learning_rates: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"standard": 5e-4, "step_by_step": 1e-3}
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


class Comparison:
    """One compiled step per method, shared by all sizes and seeds."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.model = Transformer(settings.student)
        self.optimizers = {
            method: optimizers.adamw(schedules.constant(rate, settings.warmup_steps), b2=settings.b2)
            for method, rate in settings.learning_rates.items()
        }
        weights = {
            "standard": losses.standard_weights(),
            "step_by_step": losses.step_by_step_weights(settings.alpha),
        }
        self._step_fns = {
            method: make_train_step(self.model, self.optimizers[method], weights[method]) for method in METHODS
        }
        self._compiled: dict[str, Any] = {}

    def _prepared(self, method: str, size: int, seed: int) -> Prepared:
        return prepare(
            *registry.resolve(f"{self.settings.task}_{method}"),
            "train",
            vocabulary=self.settings.vocabulary,
            task_feature_lengths=self.settings.lengths[method],
            num_examples=size,
            seed=seed,
        )

    def _state(self, method: str, seed: int) -> train_state.TrainState:
        return train_state.create(train_state.init_params(self.model, seed), self.optimizers[method])

    def compiled(self, method: str) -> Any:
        """The compiled step of a method; its `cost_analysis` counts the FLOPs."""
        if method not in self._compiled:
            records = self._prepared(method, self.settings.train_sizes[0], 0)
            batch = next(Loader(records.path, self.settings.rows[method], seed=0))
            shapes = jax.eval_shape(lambda: self._state(method, 0))
            self._compiled[method] = self._step_fns[method].lower(shapes, batch).compile()
        return self._compiled[method]

    @functools.cached_property
    def equal_compute_steps(self) -> int:
        """Steps of standard that cost the FLOPs of step-by-step's `steps`."""
        flops = {method: self.compiled(method).cost_analysis()["flops"] for method in METHODS}
        return round(self.settings.steps * flops["step_by_step"] / flops["standard"])

    def run(self, method: str, size: int, seed: int, samples: int = 0) -> list[dict[str, Any]]:
        """Trains once and evaluates.

        Args:
          method: standard or step_by_step.
          size: training examples.
          seed: of the parameters, of the choice of examples and of their order.
          samples: test rows to return with their predictions.

        Returns:
          A result at `steps`; of standard, a second one at `equal_compute_steps`.
        """
        records = self._prepared(method, size, seed)
        step_fn = self.compiled(method)
        loader = Loader(records.path, self.settings.rows[method], seed=seed)
        marks = {self.settings.steps: "equal steps"}
        if method == "standard":
            marks[self.equal_compute_steps] = "equal compute"
        state, results, seconds, began = self._state(method, seed), [], 0.0, time.monotonic()
        for step in range(1, max(marks) + 1):
            state, metrics = step_fn(state, next(loader))
            if step % 20 == 0:
                jax.block_until_ready(metrics)  # XLA on CPU queues steps without bound
            if step in marks:
                jax.block_until_ready(state.params)
                seconds += time.monotonic() - began
                result = {
                    "method": method,
                    "train_examples": size,
                    "seed": seed,
                    "comparison": marks[step],
                    "steps": step,
                    "seconds": round(seconds, 2),
                }
                results.append(result | self._scores(state.params, method, records.vocabulary, samples))
                began = time.monotonic()
        return results

    def _scores(self, params: Any, method: str, vocabulary: str, samples: int) -> dict[str, Any]:
        task, views = registry.resolve(f"{self.settings.task}_{method}")
        student = {"model": self.model, "vocabulary": load_vocabulary(vocabulary), "task": task}
        student["lengths"] = {"inputs": 64, "targets": 28}
        split, of_labels = self.settings.split, types.SimpleNamespace(**student, views=views[:1])
        scores: dict[str, Any] = {"accuracy": Evaluator(of_labels, 250)(params, split)["label_accuracy"]}
        if samples:
            whole = types.SimpleNamespace(**student, views=views)
            scores["samples"] = Evaluator(whole, samples, num_examples=samples).evaluate(params, split).rows
        return scores


def compare(
    settings: Settings, seeds: Sequence[int], on_result: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """All runs of the demo; `on_result` is called with each result."""
    comparison = Comparison(settings)
    results = []
    for seed in seeds:
        for size in settings.train_sizes:
            is_last = size == settings.train_sizes[-1] and seed == seeds[-1]
            for method in METHODS:
                samples = 4 if is_last and method == "step_by_step" else 0
                for result in comparison.run(method, size, seed, samples):
                    on_result(result)
                    results.append(result)
    return results
