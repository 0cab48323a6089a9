"""The demo with a teacher of its own: it is trained, served over HTTP, asked for annotations, and distilled.

The output folder holds what takes time: the teacher's run, its completions, the students' runs. The same call
resumes from there.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from distill_jax.data.selection import share
from distill_jax.decoding.student import load_student
from distill_jax.experiments.demo import annotations, students
from distill_jax.tasks import registry


@dataclasses.dataclass(frozen=True)
class Student:
    """A student of the comparison.

    Attributes:
      method: of `students.METHODS`.
      labels: source of the labels that it is trained on, a value of LABEL_SOURCE.
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
    """Settings of the comparison.

    Attributes:
      task: an embedded task with classes.
      rows: number of rows that the teacher annotates for the students of a seed.
      teacher_steps: updates of the teacher.
      steps: updates of a student.
    """

    task: str = students.SETTINGS.task
    rows: int = 2000
    teacher_steps: int = 1200
    steps: int = students.SETTINGS.steps


def parameters(run: pathlib.Path) -> int:
    """The number of a run's parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(load_student(str(run)).params()))


def compare(
    settings: Settings, seeds: Sequence[int], folder: pathlib.Path, report: Callable[[str], None]
) -> dict[str, Any]:
    """Trains the teacher, has it annotate the rows, then trains and scores the students.

    Args:
      settings: see `Settings`.
      seeds: of the students; each has its own rows, parameters and order.
      folder: of the runs and the completions.
      report: called with a line of text when a part is done.

    Returns:
      `teacher` (accuracy, parameters, seconds), `annotation` (figures of `Figures.summary`, `calls`,
      seconds) and `runs`, one for each student and seed. Seconds are of this call, so that a part that is done
      already takes nearly none.

    Raises:
      UserError: when the folder holds another comparison, or annotation was stopped.
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
    report(f"teacher: accuracy {figures['teacher']['accuracy']:.1%}, {seconds:.0f} s")

    task = registry.get_task(settings.task)
    ids = {
        seed: {example.id for _, example in share(task.source, "train", 1.0, settings.rows, seed)}
        for seed in seeds
    }
    began, path = time.monotonic(), folder / "annotated.jsonl"
    with annotations.served(teacher) as served:
        report(f"serving {served.model} on {served.base_url}")
        annotated = annotations.annotate(
            served, task, set().union(*ids.values()), folder / "completions.jsonl", path
        )
    seconds = time.monotonic() - began
    figures["annotation"] = annotated | {"seconds": round(seconds, 1)}
    report(
        f"annotated {annotated['rows']:,} rows, {annotated['calls']:,} calls in all, right on "
        f"{annotated['accuracy']['value']:.1%}, {seconds:.0f} s"
    )

    rows = annotations.read_rows(path)
    figures["runs"] = []
    for seed in seeds:
        own_rows = [row for row in rows if row["id"] in ids[seed]]
        data = annotations.own_data(task, own_rows, folder / "data", f"rows_{seed}")
        for student in STUDENTS:
            result = _run(settings, student, seed, data, folder)
            figures["runs"].append(result)
            report(
                f"seed {seed}  {student.method:14} accuracy {result['accuracy']:.1%}  {result['seconds']:.0f} s"
            )
    return figures


def _run(
    settings: Settings, student: Student, seed: int, data: dict[str, Any], folder: pathlib.Path
) -> dict[str, Any]:
    """Trains and scores a student; its entry of `runs`."""
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
