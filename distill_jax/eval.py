"""`python -m distill_jax.eval --gin_file=runs/eval.gin --gin.MODEL_DIR=…`: scores a trained student."""

import itertools
import json
import pathlib
import sys
from typing import Any

from distill_jax import gin_utils


def evaluate_run(
    *,
    model_dir: str,
    split: str = "test",
    checkpoint_step: int | str | None = None,
    batch_size: int = 64,
    label_by: str = "generate",
    normalize_scores: bool = False,
    num_beams: int = 1,
    num_examples: int | None = None,
    output_dir: str | None = None,
    data_dir: str | None = None,
    weights: str = "float32",
    compare_weights: bool = False,
) -> list[dict[str, Any]]:
    """Evaluates one or all checkpoints of a run, and writes metrics and predictions.

    Args:
      model_dir: the run's folder.
      split: train, validation or test.
      checkpoint_step: None for the latest, "all", or a step.
      batch_size: examples per batch.
      label_by: `generate`; `rank` for the likeliest of the row's choices or the task's classes; `constrain`
        for what is written where only these can be.
      normalize_scores: rank by the mean log-probability of a label's tokens; default by their sum.
      num_beams: 1 is greedy.
      num_examples: the first so many; None for all.
      output_dir: for the predictions and `metrics.jsonl`; default `<model_dir>/eval`. Predictions are
        `<split>-<step>.jsonl`, and `<split>-<step>-rank.jsonl` where labels are ranked, or `-constrain.jsonl`.
      data_dir: folder of the data sets, where the task reads files.
      weights: `float32`, or quantized to `bfloat16` or `int8`, which the results and the name of the
        predictions then say.
      compare_weights: evaluate each checkpoint with float32 weights first, and print what quantization costs.

    Returns:
      Metrics of each checkpoint, with its `step`; see `Evaluator.evaluate` and `summary.summarize`.
    """
    from rich.console import Console

    from distill_jax.checkpoints import orbax as checkpoints
    from distill_jax.decoding.engine import Decoding
    from distill_jax.decoding.quantization import quantize
    from distill_jax.decoding.student import load_student
    from distill_jax.evaluation.evaluator import Evaluator
    from distill_jax.evaluation.predictions import write_predictions
    from distill_jax.evaluation.summary import summarize
    from distill_jax.evaluation.tables import evaluation_tables, quantization_cost

    student = load_student(model_dir, data_dir)
    all_steps = checkpoints.steps(model_dir)
    steps = all_steps if checkpoint_step == "all" else [checkpoint_step or all_steps[-1]]
    folder = pathlib.Path(output_dir or pathlib.Path(model_dir) / "eval")
    evaluator = Evaluator.of(
        student,
        batch_size=batch_size,
        decoding=Decoding(num_beams=num_beams),
        label_by=label_by,
        normalize_scores=normalize_scores,
        num_examples=num_examples,
    )
    results: list[dict[str, Any]] = []
    kinds = ["float32", weights] if compare_weights and weights != "float32" else [weights]
    for step, kind in itertools.product(steps, kinds):
        evaluation = evaluator.evaluate(quantize(student.params(step), kind), split)
        suffix = "" if label_by == "generate" else f"-{label_by}"
        suffix += "" if kind == "float32" else f"-{kind}"
        predictions = folder / f"{split}-{step}{suffix}.jsonl"
        write_predictions(predictions, evaluation.rows)
        figures = summarize(student.task, evaluation.examples, evaluation.rows)
        settings = {"step": step, "split": split, "label_by": label_by}
        settings |= {} if kind == "float32" else {"weights": kind}
        results.append({**settings, **evaluation.metrics, **figures})
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(results[-1], ensure_ascii=False) + "\n")
    how = {"rank": "labels ranked", "constrain": "labels constrained"}.get(label_by, "labels generated")
    if weights != "float32":
        how += f", {' and '.join(kinds)} weights"
    for table in evaluation_tables(f"{student.run.mixture_or_task_name}, {split}, {how}", results):
        Console().print(table)
    if len(kinds) > 1:
        print(quantization_cost(results[-2], results[-1]))
    print(f"predictions: {predictions}")
    return results


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and evaluates; the exit status."""
    # By name: run with -m, this module is `__main__`, and gin knows the one it imports itself.
    from distill_jax import eval as eval_script

    return gin_utils.run_main(argv, eval_script.evaluate_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
