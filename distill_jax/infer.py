"""`python -m distill_jax.infer --gin_file=runs/infer.gin --gin.MODEL_DIR=…`: labels and rationales."""

import itertools
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from distill_jax import gin_utils
from distill_jax.errors import UserError

FORMATS = ("jsonl", "csv", "parquet")
WINDOW = 8  # batches that are read, sorted by length, decoded and written at a time


def open_source(path: str, input_format: str | None, columns: Mapping[str, str]):
    """The source of a file's rows; `-` is standard input.

    Raises:
      UserError: for a format or a column that is unknown.
    """
    from distill_jax.data.sources.tables import TABLES

    name = "/dev/stdin" if path == "-" else path
    suffix = pathlib.Path(name).suffix.lower()
    if input_format is None:
        input_format = suffix.removeprefix(".") if suffix in TABLES else "jsonl"
    if f".{input_format}" not in TABLES:
        raise UserError(f"INPUT_FORMAT {input_format!r}: expected one of {', '.join(FORMATS)}")
    return TABLES[f".{input_format}"]({"all": [name]}, columns)


def _skip_done(rows: Iterator, output, predicted: set[str]) -> None:
    """Moves `rows` past those that are in the output already.

    Raises:
      UserError: when the input is not the one that the output was begun with.
    """
    from distill_jax.decoding.output import to_json

    def told(row: Mapping[str, Any], names) -> str:
        return to_json({name: row.get(name) for name in names if name not in predicted})

    for number, old in enumerate(output.rows(), 1):
        row, example = next(rows, (None, None))
        if row is None or told(row, row) != told(old, row):
            where = "the input ends before it" if row is None else f"it is not of {example.id}"
            raise UserError(
                f"{output.name}, line {number}: {where}: the output of another input; "
                "choose another output, or delete it"
            )


def infer_run(
    *,
    model_dir: str,
    input_path: str = "-",
    output_path: str = "-",
    input_format: str | None = None,
    input_column: str = "input",
    choices_column: str = "choices",
    rationale_column: str = "rationale",
    checkpoint_step: int | None = None,
    label: bool = True,
    rationale: bool = False,
    label_by: str = "generate",
    normalize_scores: bool = False,
    batch_size: int = 64,
    num_beams: int = 1,
    length_penalty: float = 0.6,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    n_best: int = 1,
    seed: int = 0,
    weights: str = "float32",
) -> None:
    """Predicts the label of each input, and its rationale if asked for; rows keep their order.

    A file is written a window of rows at a time. The same command, given again, resumes after its last
    whole row, and a sample depends on the seed and the number of its row alone.

    Args:
      model_dir: the run's folder.
      input_path: JSONL, CSV or Parquet; `-` is standard input.
      output_path: JSONL, the input rows with the fields of `Prediction.row`; `-` is standard output.
      input_format: `jsonl`, `csv` or `parquet`; default by the ending of the file's name, else `jsonl`.
      input_column: column of the text.
      choices_column: column of the labels to rank, a list; where there is none, the task's classes.
      rationale_column: column of the teacher's rationale, for a student of `rationale_input`.
      checkpoint_step: None for the latest.
      label: whether to predict the label.
      rationale: whether to predict the rationale.
      label_by: `generate`, `rank` or `constrain`, see `Request`.
      normalize_scores: rank by the mean log-probability of a label's tokens; default by their sum.
      batch_size: examples per batch.
      num_beams: see `Decoding`, as the following.
      length_penalty: of beam search.
      temperature: above 0 samples.
      top_k: of sampling.
      top_p: of sampling.
      n_best: texts to return of each.
      seed: of sampling.
      weights: `float32`, or quantized to `bfloat16` or `int8`.

    Raises:
      UserError: for bad input, an output of something else, and a student that predicts no such thing.
    """
    from distill_jax.checkpoints import run_dir
    from distill_jax.decoding.engine import Decoding
    from distill_jax.decoding.output import open_output
    from distill_jax.decoding.predict import PREDICTED, Request
    from distill_jax.decoding.predictor import Predictor

    decoding = Decoding(num_beams, length_penalty, temperature, top_k, top_p, n_best, seed)
    request = Request(label, rationale, label_by, normalize_scores, decoding)
    columns = {"input": input_column, "choices": choices_column, "rationale": rationale_column}
    rows = open_source(input_path, input_format, columns).inputs("all")
    window = WINDOW * batch_size
    first = list(itertools.islice(rows, window))  # what is wrong with these is told before the model loads
    rows = itertools.chain(first, rows)
    predictor = Predictor(model_dir, checkpoint_step, batch_size, weights)
    predictor.views(request)
    settings = {
        "model_dir": str(pathlib.Path(model_dir).absolute()),
        "run": run_dir.fingerprint(model_dir),
        "step": predictor.step,
        "columns": columns,
        **{name: getattr(request, name) for name in ("label", "rationale", "label_by", "normalize_scores")},
        **vars(decoding),
        **({} if weights == "float32" else {"weights": weights}),  # older outputs do not have it
    }
    with open_output(output_path, settings) as output:
        _skip_done(rows, output, PREDICTED)
        while some := list(itertools.islice(rows, window)):
            predictions = predictor.predict_examples(
                [example for _, example in some], request, range(output.done, output.done + len(some))
            )
            output.append([{**row, **p.row()} for (row, _), p in zip(some, predictions, strict=True)])


def main(argv: list[str]) -> int:
    """Reads the gin flags in `argv` and predicts; the exit status."""
    # By name: run with -m, this module is `__main__`, and gin knows the one it imports itself.
    from distill_jax import infer as infer_script

    return gin_utils.run_main(argv, infer_script.infer_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
