"""`python -m distill_jax.eval --gin_file=runs/eval.gin --gin.MODEL_DIR=…`: scores a trained student."""

import json
import pathlib
import sys

from distill_jax import gin_utils


def evaluate_run(
    *,
    model_dir: str,
    split: str = "test",
    checkpoint_step: int | str | None = None,
    batch_size: int = 64,
    num_beams: int = 1,
    num_examples: int | None = None,
    output_dir: str | None = None,
    data_dir: str | None = None,
) -> list[dict[str, float]]:
    """Evaluates one or all checkpoints of a run, and writes metrics and predictions.

    Args:
      model_dir: the run's folder.
      split: train, validation or test.
      checkpoint_step: None for the latest, "all", or a step.
      batch_size: texts decoded at a time.
      num_beams: 1 is greedy.
      num_examples: the first so many; None for all.
      output_dir: for `<split>-<step>.jsonl` and `metrics.jsonl`; default `<model_dir>/eval`.
      data_dir: folder of the data sets, where the task reads files.

    Returns:
      Metrics of each checkpoint, with its `step`.
    """
    from rich.console import Console
    from rich.table import Table

    from distill_jax.evaluation.evaluator import evaluate
    from distill_jax.evaluation.predictions import write_predictions
    from distill_jax.evaluation.student import load_student
    from distill_jax.training import checkpoints

    student = load_student(model_dir, data_dir)
    there = checkpoints.steps(model_dir)
    steps = there if checkpoint_step == "all" else [checkpoint_step or there[-1]]
    folder = pathlib.Path(output_dir or pathlib.Path(model_dir) / "eval")
    results = []
    for step in steps:
        evaluation = evaluate(
            student.params(step),
            student.model,
            student.vocabulary,
            student.task,
            student.views,
            split,
            batch_size=batch_size,
            task_feature_lengths=student.lengths,
            num_beams=num_beams,
            num_examples=num_examples,
        )
        write_predictions(folder / f"{split}-{step}.jsonl", evaluation.rows)
        results.append({"step": step, "split": split, **evaluation.metrics})
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(results[-1]) + "\n")
    table = Table(title=f"{student.run.mixture_or_task_name}, {split}")
    for name in results[0]:
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(*(f"{v:.4f}" if isinstance(v, float) else str(v) for v in result.values()))
    Console().print(table)
    print(f"predictions: {folder}/{split}-<step>.jsonl")
    return results


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and evaluates; the exit status."""
    # By name: run with -m, this module is `__main__`, and gin knows the one it imports itself.
    from distill_jax import eval as eval_script

    return gin_utils.run_main(argv, eval_script.evaluate_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
