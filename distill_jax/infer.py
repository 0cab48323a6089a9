"""`python -m distill_jax.infer --gin_file=runs/infer.gin --gin.MODEL_DIR=…`: labels and rationales."""

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from distill_jax import gin_utils
from distill_jax.errors import UserError


def read_inputs(path: str) -> Iterator[dict[str, Any]]:
    """Rows with a text under `input`, from a JSONL file or, for `-`, from standard input.

    Raises:
      UserError: naming the line, for invalid JSON or a row without input.
    """
    try:
        file = sys.stdin if path == "-" else pathlib.Path(path).open(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: invalid JSON ({error})") from None
            if not isinstance(row, dict) or not isinstance(row.get("input"), str):
                raise UserError(f"{path}, line {number}: expected an object with a text `input`")
            yield row


def infer_run(
    *,
    model_dir: str,
    input_path: str = "-",
    output_path: str = "-",
    checkpoint_step: int | None = None,
    rationale: bool = False,
    batch_size: int = 64,
    num_beams: int = 1,
) -> None:
    """Predicts the label of each input, and its rationale if asked for; rows keep their order.

    Args:
      model_dir: the run's folder.
      input_path: JSONL with `input`; `-` is standard input.
      output_path: JSONL, the input rows with `label`, `label_score` and `rationale`; `-` is standard
        output. A file appears whole or not at all.
      checkpoint_step: None for the latest.
      rationale: also decode the rationale view.
      batch_size: texts decoded at a time.
      num_beams: 1 is greedy.

    Raises:
      UserError: for bad input, and for a student that was not trained on rationales.
    """
    from distill_jax.evaluation.decoder import decode_texts
    from distill_jax.evaluation.evaluator import LABEL_LENGTH
    from distill_jax.evaluation.predictions import write_predictions
    from distill_jax.evaluation.student import load_student

    rows = list(read_inputs(input_path))
    student = load_student(model_dir)
    views = {view.name: view for view in student.views}
    wanted = ["label", "rationale"] if rationale else ["label"]
    for name in wanted:
        if name not in views:
            raise UserError(
                f"{model_dir}: a student of {student.run.mixture_or_task_name} has no {name} view; "
                "step_by_step trains both"
            )
    params = student.params(checkpoint_step)
    targets = student.lengths["targets"]
    for name in wanted:
        decoded = decode_texts(
            params,
            student.model,
            student.vocabulary,
            [views[name].prefix + row["input"] for row in rows],
            batch_size=batch_size,
            inputs_length=student.lengths["inputs"],
            targets_length=min(targets, LABEL_LENGTH) if name == "label" else targets,
            num_beams=num_beams,
        )
        rows = [
            {**row, name: text, f"{name}_score": score}
            for row, (text, score) in zip(rows, decoded, strict=True)
        ]
    if output_path == "-":
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
    else:
        write_predictions(pathlib.Path(output_path), rows)


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and predicts; the exit status."""
    # By name: run with -m, this module is `__main__`, and gin knows the one it imports itself.
    from distill_jax import infer as infer_script

    return gin_utils.run_main(argv, infer_script.infer_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
