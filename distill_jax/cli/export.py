"""`distill-jax export`: a trained student as others load it."""

from distill_jax import files
from distill_jax.checkpoints.layout import require_run
from distill_jax.cli.common import command, quiet
from distill_jax.config import ExportConfig


@command(
    "export",
    "a student for transformers or CTranslate2, with a model card",
    "distill-jax export student --to huggingface --output student-hf",
)
def _export(config: ExportConfig) -> int:
    require_run(config.model_dir)  # before anything heavy is imported
    files.refuse_existing(config.folder, config.elsewhere)
    from distill_jax.export.run import export

    quiet()
    done = export(config)
    print(f"step {done.step}, {done.parameters:,} parameters, {config.dtype}, for {config.to}: {done.folder}")
    if not done.evaluations:
        print(f"no evaluation of this step, so none in the card: distill-jax eval RUN --step {done.step}")
    if config.license is None:
        print("the card's licence is to be filled in: README.md, or --license")
    if done.address:
        print(f"pushed: {done.address}")
    return 0
