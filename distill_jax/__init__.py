"""distill_jax: distilling step-by-step in JAX, from a teacher's rationales to a small T5 student."""

__version__ = "0.1.0"


def load(model_dir: str, step: int | None = None, batch_size: int = 64, weights: str = "float32"):
    """A trained student, ready to predict: `load("runs/svamp").predict(["…"], rationale=True)`.

    Args:
      model_dir: the run's folder.
      step: of a checkpoint; None for the latest.
      batch_size: inputs worked off at a time.
      weights: what they are kept in: `float32`, `bfloat16` or `int8`.

    Returns:
      A `distill_jax.decoding.predictor.Predictor`.

    Raises:
      UserError: when it is not the folder of a run, or has no such checkpoint.
    """
    from distill_jax.decoding.predictor import Predictor

    return Predictor(model_dir, step, batch_size, weights)
