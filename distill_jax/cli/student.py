"""`distill-jax eval`, `compare`, `infer` and `serve`: what is done with a trained student."""

import dataclasses
import sys

from distill_jax import files
from distill_jax.checkpoints.layout import require_run
from distill_jax.cli.common import command, keep_compiled, print_json, quiet
from distill_jax.config import CompareConfig, EvalConfig, InferConfig, ServeConfig
from distill_jax.errors import UserError

SERVE_EXTRA = ("aiohttp", "prometheus_client", "pydantic")


@command("eval", "score a trained student", "distill-jax eval student")
def _eval(config: EvalConfig) -> int:
    require_run(config.model_dir)  # before anything heavy is imported
    from distill_jax.evaluation.run import evaluate_run
    from distill_jax.evaluation.tables import evaluation_tables, quantization_cost
    from distill_jax.experiments.console import console

    quiet()
    keep_compiled()
    evaluated = evaluate_run(config)
    if config.json:
        print_json({**dataclasses.asdict(evaluated), "predictions": str(evaluated.predictions)})
        return 0
    for table in evaluation_tables(evaluated.title, evaluated.results):
        console().print(table)
    if len(evaluated.weights) > 1:
        print(quantization_cost(*evaluated.results[-2:]))
    print(f"predictions: {evaluated.predictions}")
    return 0


@command("compare", "test two runs' predictions for a difference")
def _compare(config: CompareConfig) -> int:
    from distill_jax.evaluation.comparison import compare_files

    result = compare_files(config.first, config.second, resamples=config.resamples, seed=config.seed)
    if config.json:
        print_json(result)
        return 0
    from distill_jax.evaluation.tables import comparison_table
    from distill_jax.experiments.console import console

    console().print(comparison_table(result))
    return 0


@command(
    "infer",
    "predict labels and rationales for a file of inputs",
    "echo 'Tom has 3 pens and buys 4.' | distill-jax infer student --input-format text --rationale",
)
def _infer(config: InferConfig) -> int:
    require_run(config.model_dir)
    if config.input != "-":
        files.require_file(config.input, config.named("input"))
    from distill_jax.decoding.infer import infer_run

    quiet()
    keep_compiled()
    before, added = infer_run(config)
    if config.output != "-":
        resumed = f" after the {before} that were there" if before else ""
        print(f"{config.output}: {added} rows{resumed}", file=sys.stderr)
    return 0


@command("serve", "serve a trained student over HTTP, as OpenAI's API", "distill-jax serve student --port 8000")
def _serve(config: ServeConfig) -> int:
    require_run(config.model_dir)
    try:
        from distill_jax.serving import listen
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in SERVE_EXTRA:
            raise
        raise UserError(f"serve needs {error.name}: pip install 'distill_jax[serve]'") from None
    quiet()
    keep_compiled()
    listen.run(config, lambda line: print(line, flush=True))
    return 0
