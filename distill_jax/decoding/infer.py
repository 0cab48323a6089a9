"""Labels and rationales for a file of inputs, written window by window, so that a stopped command resumes."""

import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from distill_jax.checkpoints import run_dir
from distill_jax.config import InferConfig
from distill_jax.data.sources.tables import TABLES, JsonlSource, TextLines, ending
from distill_jax.decoding.output import Output, open_output, to_json
from distill_jax.decoding.predict import PREDICTED, Request
from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError

WINDOW = 8  # batches that are read, sorted by length, predicted and written at a time


def open_source(path: str, input_format: str | None, given: Mapping[str, str], usual: Mapping[str, str]):
    """The source of a file's rows; `-` is standard input.

    Args:
      path: of the file.
      input_format: as `InferConfig` has it.
      given: field -> column, of those that the command names.
      usual: of the others, where there are columns.

    Raises:
      UserError: for columns of plain text.
    """
    kinds = {**TABLES, ".txt": TextLines, ".text": TextLines}
    kind = f".{input_format}" if input_format else ending(path)
    source, paths = kinds.get(kind, JsonlSource), {"all": ["/dev/stdin" if path == "-" else path]}
    if source is TextLines:
        if named := [f"--{field}-column {name}" for field, name in given.items() if name != field]:
            raise UserError(
                f"{' and '.join(named)}: plain text has no columns, each line of {path} is an input"
            )
        return source(paths)
    source = source(paths, {**usual, **given})
    if kind not in kinds:
        source.advice = "; plain text, an input a line, is read with --input-format text"
    return source


def _skip_done(rows: Iterator, output: Output) -> None:
    """Moves `rows` past those in the output; a UserError when that was begun with another input."""

    def given(row: Mapping[str, Any], names) -> str:
        return to_json({name: row.get(name) for name in names if name not in PREDICTED})

    for number, old in enumerate(output.rows(), 1):
        row, example = next(rows, (None, None))
        if row is None or given(row, row) != given(old, row):
            where = "the input ends before it" if row is None else f"it is not of {example.id}"
            raise UserError(
                f"{output.name}, line {number}: {where}: the output of another input; "
                "choose another output, or delete it"
            )


def infer_run(config: InferConfig) -> tuple[int, int]:
    """Predicts the label of each input, and its rationale if asked for; rows keep their order.

    The output has the input rows with the fields of `Prediction.row`. The same command, given again, resumes
    after its last whole row, and a sample depends on the seed and the number of its row alone.

    Returns:
      (rows that the output had, rows that were added).

    Raises:
      UserError: for bad input, an output of something else, and a student that predicts no such thing.
    """
    decoding = config.decoding
    request = Request(config.label, config.rationale, config.label_by, config.normalize_scores, decoding)
    own = run_dir.load(config.model_dir).own_data
    usual = {
        name: own["columns"].get(name, name) if own else name for name in ("input", "choices", "rationale")
    }
    given = {name: column for name in usual if (column := getattr(config, f"{name}_column")) is not None}
    rows = open_source(config.input, config.input_format, given, usual).inputs("all")
    window = WINDOW * config.batch_size
    first = list(itertools.islice(rows, window))  # what is wrong with these is told before the model loads
    rows = itertools.chain(first, rows)
    predictor = Predictor.of(config)
    predictor.views(request)
    settings = {
        "model_dir": str(pathlib.Path(config.model_dir).absolute()),
        "run": run_dir.fingerprint(config.model_dir),
        "step": predictor.step,
        "columns": usual | given,
        **{name: getattr(request, name) for name in ("label", "rationale", "label_by", "normalize_scores")},
        **decoding.to_json(),
        # Older outputs do not have these.
        **({} if config.weights == "float32" else {"weights": config.weights}),
        **({} if config.engine == "jax" else {"engine": config.engine}),
    }
    with open_output(config.output, settings) as output:
        _skip_done(rows, output)
        before = output.done
        while batch := list(itertools.islice(rows, window)):
            predictions = predictor.predict_examples(
                [example for _, example in batch], request, range(output.done, output.done + len(batch))
            )
            output.append([{**row, **p.row()} for (row, _), p in zip(batch, predictions, strict=True)])
        return before, output.done - before
