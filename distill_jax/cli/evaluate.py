"""`distill-jax eval`."""

from distill_jax.cli.common import add_command, quiet
from distill_jax.config import EvalConfig


def _eval(config: EvalConfig) -> int:
    from rich.console import Console

    from distill_jax.evaluation.run import evaluate_run
    from distill_jax.evaluation.tables import evaluation_tables, quantization_cost

    quiet()
    evaluated = evaluate_run(config)
    for table in evaluation_tables(evaluated.title, evaluated.results):
        Console().print(table)
    if len(evaluated.weights) > 1:
        print(quantization_cost(*evaluated.results[-2:]))
    print(f"predictions: {evaluated.predictions}")
    return 0


def add(commands) -> None:
    """Adds the command."""
    add_command(commands, "eval", "score a trained student", _eval, EvalConfig)
