"""Evaluates checkpoints of a run, and writes metrics and predictions to its folder."""

import dataclasses
import itertools
import json
import pathlib
from typing import Any

from distill_jax import files
from distill_jax.checkpoints import orbax as checkpoints
from distill_jax.checkpoints.layout import METRICS
from distill_jax.config import Decoding, EvalConfig
from distill_jax.decoding.predict import Request
from distill_jax.decoding.student import load_student
from distill_jax.evaluation.evaluator import Evaluator, scored_split
from distill_jax.evaluation.summary import summarize


@dataclasses.dataclass(frozen=True)
class RunEvaluation:
    """What `evaluate_run` found.

    Attributes:
      title: task, split and how labels were found.
      results: of each checkpoint and kind of weights the metrics, with `step`; see `Evaluator.evaluate` and
        `summary.summarize`.
      weights: the kinds of weights.
      predictions: the file with the predictions of the last.
    """

    title: str
    results: list[dict[str, Any]]
    weights: list[str]
    predictions: pathlib.Path


def evaluate_run(config: EvalConfig) -> RunEvaluation:
    """Evaluates one or all checkpoints of a run.

    Predictions are `<split>-<step>.jsonl` in the output folder, by the split that was asked for; `-rank` or
    `-constrain` follows where labels are found so, the weights where they are not float32, and the engine where
    it is not JAX. Metrics are appended to `metrics.jsonl`: their `split` is that whose rows were scored, which
    `stands_in_for` another where the task has none of that name.

    Raises:
      UserError: for a folder that is no run, a missing checkpoint or split, labels that cannot be ranked, and
        what the engine refuses.
    """
    student = load_student(config.model_dir, config.data_dir, config.trust)
    if not config.rationale:
        labels = [view for view in student.views if view.name == "label" or view.answer]
        student = dataclasses.replace(student, views=labels)
    steps = checkpoints.steps(config.model_dir)
    if config.step != "all":
        steps = [checkpoints.pick_step(config.model_dir, config.step)]
    folder = pathlib.Path(config.eval_output_dir or pathlib.Path(config.model_dir) / "eval")
    weights = [config.weights]
    if config.compare_weights and config.weights != "float32":
        weights.insert(0, "float32")
    options = {name: getattr(config, name) for name in ("label_by", "normalize_scores")}
    request = Request(decoding=Decoding(num_beams=config.num_beams), **options)
    evaluator = Evaluator(student, config.batch_size, request, config.eval_examples)
    split = scored_split(student.task, config.split)
    results: list[dict[str, Any]] = []
    for step, kind in itertools.product(steps, weights):
        engine = student.engine(step, config.batch_size, kind, config.verify_checksums, config.engine)
        evaluation = evaluator.evaluate_engine(engine, config.split)
        suffix = "" if config.label_by == "generate" else f"-{config.label_by}"
        suffix += "" if kind == "float32" else f"-{kind}"
        suffix += "" if config.engine == "jax" else f"-{config.engine}"
        predictions = folder / f"{config.split}-{step}{suffix}.jsonl"
        with files.atomic_write(predictions) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in evaluation.rows)
        figures = summarize(student.task, evaluation.examples, evaluation.rows)
        settings = {"step": step, "split": split, "label_by": config.label_by}
        settings |= {} if split == config.split else {"stands_in_for": config.split}
        settings |= {} if kind == "float32" else {"weights": kind}
        settings |= {} if config.engine == "jax" else {"engine": config.engine}
        results.append({**settings, **evaluation.metrics, **figures})
        files.append_line(folder / METRICS, json.dumps(results[-1], ensure_ascii=False))
    how = {"rank": "labels ranked", "constrain": "labels constrained"}.get(config.label_by, "labels generated")
    if config.weights != "float32":
        how += f", {' and '.join(weights)} weights"
    how += "" if config.engine == "jax" else f", engine {config.engine}"
    what = split if split == config.split else f"{split} (there is no {config.split} split)"
    title = f"{student.run.mixture_or_task_name}, {what}, {how}"
    return RunEvaluation(title, results, weights, predictions)
