"""A T5 trained from scratch by any method, as a run in a folder: students and teachers of all experiments."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from distill_jax.config import TrainConfig
from distill_jax.decoding.student import load_student
from distill_jax.evaluation.evaluator import Evaluator
from distill_jax.experiments.demo.experiment import Settings
from distill_jax.models.config import T5Config
from distill_jax.training import trainer

SETTINGS = Settings()
STUDENT = dataclasses.replace(SETTINGS.student, vocab_size=None)
TEACHER = dataclasses.replace(STUDENT, emb_dim=96, num_decoder_layers=2, mlp_dim=192)
LENGTHS = {"inputs": 40, "targets": 28}  # tokens of one example, whatever the method
EXAMPLES = 32  # of a batch
TEACHER_STEPS = 1600


@dataclasses.dataclass(frozen=True)
class Method:
    """A method with its training settings.

    Attributes:
      name: of the recipe.
      at_test_time: the student's output for an input.
      temperature: of its divergence.
      needs_teacher: whether it needs a white-box teacher.
      views: number of views of an example.
      shares_inputs: whether an unpacked row holds all views of an example.
      packed: tokens of a packed row of two examples; {} where the method is not packed.
    """

    name: str
    at_test_time: str
    temperature: float = 1.0
    needs_teacher: bool = False
    views: int = 1
    shares_inputs: bool = False
    packed: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def rate(self) -> float:
        """The learning rate that the demo found best on validation for so many views, with the most rows.

        With fewer all rates leave `standard` at the floor, and chance chooses.
        """
        rows = max(SETTINGS.train_sizes)
        return SETTINGS.rate("standard" if self.views == 1 else "step_by_step", "equal steps", rows)

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
        Method("standard", "label", packed=SETTINGS.lengths["standard"]),
        Method("task_distillation", "label"),
        Method("step_by_step", "label", views=2, packed=SETTINGS.lengths["step_by_step"]),
        Method("step_by_step_shared", "label", views=2, shares_inputs=True),
        Method("single_task", "rationale, then label"),
        Method("rationale_input", "label, after the teacher's rationale"),
        Method(
            "soft_labels",
            "label",
            temperature=2.0,
            packed={"inputs": 42, "targets": 12},  # of an example all three labels, two tokens each
        ),
        Method("logit_distillation", "label", needs_teacher=True, views=2),
    )
}


def train(
    folder: pathlib.Path, method: Method, seed: int, model: T5Config = STUDENT, **changes: Any
) -> dict[str, float]:
    """Trains one run, resumed from its latest checkpoint if there is one; its metrics.

    Args:
      folder: of the run.
      method: of `METHODS`.
      seed: of the parameters, of the rows that `num_examples` selects and of their order.
      model: the student's shape.
      **changes: options of `TrainConfig` in place of the demo's; a task or own data is needed.

    Raises:
      UserError: see `trainer.train`.
    """
    options = {
        "model_dir": str(folder),
        "method": method.name,
        "task_feature_lengths": LENGTHS,
        "vocabulary": SETTINGS.vocabulary,
        "schedule": "constant",
        "learning_rate": method.rate,
        "warmup_steps": SETTINGS.warmup_steps,
        "adam_b2": SETTINGS.b2,
        "alpha": SETTINGS.alpha,
        "temperature": method.temperature,
        "batch_size": EXAMPLES * (1 if method.shares_inputs else method.views),
        "train_steps": SETTINGS.steps,
        "pack": False,
        "seed": seed,
        "log_period": 200,
        "eval_period": 0,
        "checkpoint_period": SETTINGS.steps,
        **dataclasses.asdict(model),
    }
    return trainer.train(TrainConfig(**options | changes))


def train_teacher(folder: pathlib.Path, **changes: Any) -> None:
    """A larger T5, trained step by step on all rows of the task; see `train` for `changes`."""
    common = {"mixture_or_task_name": SETTINGS.task, "train_steps": TEACHER_STEPS}
    train(folder, METHODS["step_by_step"], 0, TEACHER, **common | changes)


def label_accuracy(folder: pathlib.Path, split: str) -> float:
    """Accuracy of the labels that a run's student generates for a split of its task."""
    student = load_student(str(folder))
    views = [view for view in student.views if view.name == "label" or view.answer]
    evaluator = Evaluator(dataclasses.replace(student, views=views), batch_size=250)
    return evaluator(student.params(), split)["label_accuracy"]
