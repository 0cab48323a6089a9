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
    normalize_scores: bool = True,
    num_beams: int = 1,
    num_examples: int | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    output_dir: str | None = None,
    data_dir: str | None = None,
    weights: str = "float32",
    compare_weights: bool = False,
) -> list[dict[str, Any]]:
    """Evaluates one or all checkpoints of a run, and writes metrics and predictions.

    Args:
      model_dir: the run's folder.
      split: train, validation or test.
      checkpoint_step: "all", or one, see `orbax.pick_step`: "latest" (None), "best" or a number.
      batch_size: texts worked off at a time.
      label_by: `generate`; `rank` for the likeliest of the row's choices or the task's classes; `constrain`
        for what is written where only these can be.
      normalize_scores: rank by the mean log-probability of a label's tokens, not by their sum.
      num_beams: 1 is greedy.
      num_examples: the first so many; None for all.
      resamples: bootstrap samples of the accuracy's interval.
      seed: of these.
      output_dir: for the predictions and `metrics.jsonl`; default `<model_dir>/eval`. Predictions are
        `<split>-<step>.jsonl`, and `<split>-<step>-rank.jsonl` where labels are ranked, or `-constrain.jsonl`.
      data_dir: folder of the data sets, where the task reads files.
      weights: what they are kept in: `float32`, `bfloat16` or `int8`; named in the results and the name of the
        predictions where it is not the first.
      compare_weights: evaluate each checkpoint with float32 weights first, and print what the others cost.

    Returns:
      Metrics of each checkpoint, with its `step`; see `evaluator.evaluate` and `summary.summarize`.
    """
    from distill_jax.checkpoints import orbax as checkpoints
    from distill_jax.decoding.engine import Decoding
    from distill_jax.decoding.quantization import shrink
    from distill_jax.decoding.student import load_student
    from distill_jax.evaluation.evaluator import evaluate
    from distill_jax.evaluation.predictions import write_predictions
    from distill_jax.evaluation.summary import summarize
    from distill_jax.evaluation.tables import print_cost, print_evaluation

    student = load_student(model_dir, data_dir)
    every = checkpoint_step == "all"
    steps = checkpoints.steps(model_dir) if every else [checkpoints.pick_step(model_dir, checkpoint_step)]
    folder = pathlib.Path(output_dir or pathlib.Path(model_dir) / "eval")
    results: list[dict[str, Any]] = []
    kinds = ["float32", weights] if compare_weights and weights != "float32" else [weights]
    for step, kept in itertools.product(steps, kinds):
        evaluation = evaluate(
            shrink(student.params(step), kept),
            student.model,
            student.vocabulary,
            student.task,
            student.views,
            split,
            batch_size=batch_size,
            task_feature_lengths=student.lengths,
            decoding=Decoding(num_beams=num_beams),
            label_by=label_by,
            normalize_scores=normalize_scores,
            num_examples=num_examples,
        )
        kind = "" if label_by == "generate" else f"-{label_by}"
        kind += "" if kept == "float32" else f"-{kept}"
        predictions = folder / f"{split}-{step}{kind}.jsonl"
        write_predictions(predictions, evaluation.rows)
        figures = summarize(student.task, evaluation.examples, evaluation.rows, resamples=resamples, seed=seed)
        how = {"step": step, "split": split, "label_by": label_by}
        how |= {} if kept == "float32" else {"weights": kept}
        results.append({**how, **evaluation.metrics, **figures})
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(results[-1], ensure_ascii=False) + "\n")
    how = {"rank": "labels ranked", "constrain": "labels constrained"}.get(label_by, "labels generated")
    if weights != "float32":
        how += f", {' and '.join(kinds)} weights"
    print_evaluation(f"{student.run.mixture_or_task_name}, {split}, {how}", results)
    if len(kinds) > 1:
        print_cost(results[-2], results[-1])
    print(f"predictions: {predictions}")
    return results


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and evaluates; the exit status."""
    # By name: run with -m, this module is `__main__`, and gin knows the one it imports itself.
    from distill_jax import eval as eval_script

    return gin_utils.run_main(argv, eval_script.evaluate_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
