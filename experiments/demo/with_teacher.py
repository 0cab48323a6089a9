"""The demo with a teacher of its own: trained, served, asked over HTTP, and distilled by two methods.

What costs time is kept in the output folder: the teacher's run, its completions, the students' runs. The same
call goes on from there.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from distill_jax.experiments.demo import annotations, students
from distill_jax.tasks import registry

from distill_jax.data.selection import share
from distill_jax.decoding.student import load_student
from distill_jax.teachers.rows import task_or_file


@dataclasses.dataclass(frozen=True)
class Student:
    """A student of the comparison.

    Attributes:
      method: of `students.METHODS`.
      labels: what its label view is trained on, reference or teacher.
      trained_on: the same in words.
    """

    method: str
    labels: str
    trained_on: str


STUDENTS = (
    Student("standard", "reference", "reference labels"),
    Student("step_by_step", "teacher", "teacher's labels, reasons"),
    Student("soft_labels", "teacher", "teacher's labels, probabilities"),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the comparison is made with.

    Attributes:
      task: an embedded task with classes.
      rows: that the teacher annotates for a seed's students.
      teacher_steps: updates of the teacher.
      steps: updates of a student.
    """

    task: str = students.SETTINGS.task
    rows: int = 2000
    teacher_steps: int = 1200
    steps: int = students.SETTINGS.steps


def parameters(run: pathlib.Path) -> int:
    """Number of a run's parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(load_student(str(run)).params()))


def compare(
    settings: Settings, seeds: Sequence[int], folder: pathlib.Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Trains and asks the teacher, then trains and scores the students.

    Args:
      settings: see `Settings`.
      seeds: of the students; each has its own rows, parameters and order.
      folder: for the runs and the completions.
      tell: is told of each step as it ends.

    Returns:
      `teacher` (accuracy, parameters, seconds), `annotation` (figures of `export.Figures.summary`, `calls`,
      seconds) and `runs`, one for each student and seed. Seconds are of this call: of what was there
      already, the time to find that out.

    Raises:
      UserError: when the folder holds another comparison, or was stopped while asking.
    """
    teacher, began = folder / "teacher", time.monotonic()
    packing = students.METHODS["step_by_step"].packing()
    steps = settings.teacher_steps
    students.train_teacher(teacher, train_steps=steps, checkpoint_period=steps, **packing)
    seconds = time.monotonic() - began
    figures: dict[str, Any] = {
        "teacher": {
            "accuracy": students.label_accuracy(teacher, "test"),
            "parameters": parameters(teacher),
            "seconds": round(seconds, 1),
        }
    }
    tell(f"teacher: accuracy {figures['teacher']['accuracy']:.1%}, {seconds:.0f} s")

    task = registry.get_task(settings.task)
    ids = {
        seed: {example.id for _, example in share(task.source, "train", 1.0, settings.rows, seed)}
        for seed in seeds
    }
    began, annotated = time.monotonic(), folder / "annotated.jsonl"
    with annotations.served(teacher) as served:
        tell(f"serving {served.model} on {served.base_url}")
        rows = task_or_file(settings.task)
        asked = annotations.annotate(
            served, rows, set().union(*ids.values()), folder / "completions.jsonl", annotated
        )
    seconds = time.monotonic() - began
    figures["annotation"] = asked | {"seconds": round(seconds, 1)}
    tell(
        f"annotated {asked['rows']:,} rows, {asked['calls']:,} calls in all, right on "
        f"{asked['accuracy']['value']:.1%}, {seconds:.0f} s"
    )

    said = annotations.read_rows(annotated)
    figures["runs"] = []
    for seed in seeds:
        own_rows = [row for row in said if row["id"] in ids[seed]]
        data = annotations.own_data(task, own_rows, folder / "data", f"rows_{seed}")
        for student in STUDENTS:
            result = _run(settings, student, seed, data, folder)
            figures["runs"].append(result)
            tell(
                f"seed {seed}  {student.method:14} accuracy {result['accuracy']:.1%}  {result['seconds']:.0f} s"
            )
    return figures


def _run(
    settings: Settings, student: Student, seed: int, data: dict[str, Any], folder: pathlib.Path
) -> dict[str, Any]:
    """Trains and scores a student; its line of the figures."""
    began, run = time.monotonic(), folder / f"{student.method}-{seed}"
    method = students.METHODS[student.method]
    students.train(
        run,
        method,
        seed,
        vocabulary=str(folder / "teacher"),
        label_source=student.labels,
        train_steps=settings.steps,
        checkpoint_period=settings.steps,
        **method.packing(),
        **data,
    )
    seconds = time.monotonic() - began
    return {
        "method": student.method,
        "labels": student.labels,
        "seed": seed,
        "accuracy": students.label_accuracy(run, "test"),
        "parameters": parameters(run),
        "steps": settings.steps,
        "seconds": round(seconds, 1),
    }
