"""What a run knows of its student, for the model card; what it does not know is None."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from distill_jax import files
from distill_jax.checkpoints import orbax, run_dir
from distill_jax.config import ExportConfig
from distill_jax.config.data import method_in
from distill_jax.config.json_types import require_known
from distill_jax.decoding.student import Student
from distill_jax.errors import UserError, words_of

# What is read of an evaluation, and of a teacher's report, with its types.
_METRICS = {"weights": str, "engine": str, "examples": float}
_REPORT = {"rows": int, "answered": int, "requests": int, "tokens": int, "usd": float | None, "settings": dict}
_ACCURACY = {"rows": int, "value": float, "low": float, "high": float}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a student.

    Attributes:
      student: with its run, task and views.
      step: of the checkpoint.
      parameters: how many numbers the weights are.
      method: of `views.METHODS`, or the name of a single view.
      settings: the options of the training, of `config.json`; None for a converted run.
      data: the manifest of the training records, of `data.json`.
      evaluations: of this checkpoint, as `evaluation.run` writes them, the latest of each kind.
      validation: (metric, value) by which the best checkpoint is chosen; larger is better.
      teacher: the figures and settings that `annotate --report` wrote.
    """

    student: Student
    step: int
    parameters: int
    method: str | None
    settings: dict[str, Any] | None
    data: dict[str, Any] | None
    evaluations: list[dict[str, Any]]
    validation: tuple[str, float] | None
    teacher: dict[str, Any] | None

    @property
    def base(self) -> str | None:
        """What training started from: `hf://ORG/NAME`, another address or path; None where it is not known."""
        return (self.settings or {}).get("initial_checkpoint_path")

    @property
    def base_on_hub(self) -> str | None:
        """`ORG/NAME` of the start, where it is of the hub."""
        match = re.match(r"hf://([^/@]+/[^/@]+)", self.base or "")
        return match[1] if match else None

    @property
    def dataset_on_hub(self) -> str | None:
        """The name of the training set, where it is of the Hugging Face hub."""
        origin = (self.student.run.own_data or {}).get("data", "")
        return origin.split(":")[1] if origin.startswith("hf:") else None

    @property
    def uses_teacher(self) -> bool:
        """Whether a view has a target of the teacher's, or a teacher was in the loss."""
        targets = {field for view in self.student.views for field in (view.target, view.answer)}
        soft = any(view.soft or view.reads_rationale for view in self.student.views)
        return soft or bool(targets & {"teacher_label", "rationale"}) or self.student.run.teacher is not None


def gather(config: ExportConfig, student: Student, step: int, parameters: int) -> Facts:
    """Reads the run's folder, its evaluations and the teacher's report.

    Raises:
      UserError: for a file that is not what it should be.
    """
    settings = run_dir.read_config(config.model_dir)
    named = method_in(f"_{student.run.mixture_or_task_name}")
    folder = pathlib.Path(config.eval_output_dir or pathlib.Path(config.model_dir) / "eval")
    return Facts(
        student=student,
        step=step,
        parameters=parameters,
        method=(settings or {}).get("method") or named,
        settings=settings,
        data=run_dir.read_data(config.model_dir),
        evaluations=_evaluations(folder / "metrics.jsonl", step),
        validation=orbax.score(config.model_dir, step),
        teacher=None if config.teacher_report is None else _teacher(config.teacher_report),
    )


def _evaluations(path: pathlib.Path, step: int) -> list[dict[str, Any]]:
    """The last line of each split, way to find labels, kind of weights and engine; none without a file."""
    if not path.exists():
        return []
    latest: dict[tuple, dict[str, Any]] = {}
    for number, line in enumerate(files.read_text(path).splitlines(), 1):
        try:
            values = json.loads(line)
            require_known(values, {"split": str, "label_by": str, "step": int})
            require_known(values, _METRICS | _intervals(values), partial=True)
        except (ValueError, RecursionError, UserError) as error:
            what = f"no metrics of `distill-jax eval`: {words_of(error):.200}"
            raise UserError(f"{path}, line {number}: {what}") from None
        if values["step"] == step:
            key = values["split"], values["label_by"], values.get("weights", "float32"), values.get("engine")
            latest[key] = values
    return list(latest.values())


def _intervals(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list[float] for name in values if name.endswith("_interval")}


def _teacher(path: str) -> dict[str, Any]:
    report = files.read_json(path)
    try:
        require_known(report, _REPORT)
        if (accuracy := report.get("accuracy")) is not None:
            require_known(accuracy, _ACCURACY, "accuracy")
    except UserError as error:
        raise UserError(
            f"{path}: expected the JSON beside the page of `distill-jax annotate --report`: {error}"
        ) from None
    return report
