"""A T5 from scratch by any method, as a run in a folder: what the demo's teacher and the benchmarks train."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from distill_jax.experiments.demo.experiment import Settings

from distill_jax.decoding.student import load_student
from distill_jax.evaluation.evaluator import Evaluator
from distill_jax.models import losses
from distill_jax.models.t5 import Transformer
from distill_jax.training import optimizers, schedules, trainer
from distill_jax.training.objectives import CrossEntropy, LogitDistillation, Objective, SoftLabels

SETTINGS = Settings()
STUDENT = dataclasses.replace(SETTINGS.student, vocab_size=None)
TEACHER = dataclasses.replace(STUDENT, emb_dim=96, num_decoder_layers=2, mlp_dim=192)
LENGTHS = {"inputs": 40, "targets": 28}  # of one example, whatever the method
EXAMPLES = 32  # in a batch
TEACHER_STEPS = 2 * SETTINGS.steps


@dataclasses.dataclass(frozen=True)
class Method:
    """What a method is trained on and with.

    Attributes:
      name: of the recipe.
      at_test_time: what the student gives for an input.
      weights: of the views.
      objective: what is minimised.
      views: of an example.
      shares_inputs: whether an unpacked row holds all views of an example.
      packed: tokens of a row that holds two examples; {} where nobody packs it.
    """

    name: str
    at_test_time: str
    weights: Mapping[str, float]
    objective: Objective = CrossEntropy()
    views: int = 1
    shares_inputs: bool = False
    packed: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def rate(self) -> float:
        """The learning rate that the demo found best on the validation split for so many views."""
        return SETTINGS.learning_rates["standard" if self.views == 1 else "step_by_step"]

    def packing(self) -> dict[str, Any]:
        """Arguments of `train` for batches of `EXAMPLES` examples in half as many rows a view."""
        return {
            "pack": True,
            "task_feature_lengths": dict(self.packed),
            "batch_size": EXAMPLES * self.views // 2,
        }


METHODS = {
    method.name: method
    for method in (
        Method("standard", "label", losses.standard_weights(), packed=SETTINGS.lengths["standard"]),
        Method("task_distillation", "label", losses.standard_weights()),
        Method(
            "step_by_step",
            "label",
            losses.step_by_step_weights(SETTINGS.alpha),
            views=2,
            packed=SETTINGS.lengths["step_by_step"],
        ),
        Method(
            "step_by_step_shared",
            "label",
            losses.step_by_step_weights(SETTINGS.alpha),
            views=2,
            shares_inputs=True,
        ),
        Method("single_task", "rationale, then label", losses.single_task_weights()),
        Method("rationale_input", "label, after the teacher's rationale", losses.standard_weights()),
        Method(
            "soft_labels",
            "label",
            losses.standard_weights(),
            SoftLabels(temperature=2.0),
            packed={"inputs": 42, "targets": 12},  # of an example all three labels, two tokens each
        ),
        Method("logit_distillation", "label", losses.step_by_step_weights(), LogitDistillation(), views=2),
    )
}


def train(folder: pathlib.Path, method: Method, seed: int, **changes: Any) -> dict[str, float]:
    """One run, from its latest checkpoint if there is one; its figures.

    Args:
      folder: of the run.
      method: of `METHODS`.
      seed: of the parameters, of the rows that `num_examples` takes and of their order.
      **changes: arguments of `trainer.train` in place of the demo's; those that it needs are
        `mixture_or_task_name` and `vocabulary`.

    Raises:
      UserError: see `trainer.train`.
    """
    arguments = {
        "model": Transformer(STUDENT),
        "model_dir": str(folder),
        "task_feature_lengths": LENGTHS,
        "optimizer": optimizers.adamw(schedules.constant(method.rate, SETTINGS.warmup_steps), b2=SETTINGS.b2),
        "view_weights": method.weights,
        "objective": method.objective,
        "batch_size": EXAMPLES * (1 if method.shares_inputs else method.views),
        "train_steps": SETTINGS.steps,
        "pack": False,
        "seed": seed,
        "log_period": 200,
        "eval_period": 0,
        "checkpoint_period": SETTINGS.steps,
    }
    return trainer.train(**arguments | changes)


def train_teacher(folder: pathlib.Path, **changes: Any) -> None:
    """A larger T5, trained step by step on all rows of the task; see `train` for `changes`."""
    common = {
        "model": Transformer(TEACHER),
        "mixture_or_task_name": f"{SETTINGS.task}_step_by_step",
        "vocabulary": SETTINGS.vocabulary,
        "train_steps": TEACHER_STEPS,
    }
    train(folder, METHODS["step_by_step"], 0, **common | changes)


def label_accuracy(folder: pathlib.Path, split: str) -> float:
    """Accuracy of the labels that a run's student writes for a split of its task."""
    student = load_student(str(folder))
    views = [view for view in student.views if view.name == "label" or view.answer]
    evaluator = Evaluator.of(student, views=views, batch_size=250)
    return evaluator(student.params(), split)["label_accuracy"]
