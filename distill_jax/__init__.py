"""distill_jax: distilling step-by-step in JAX, from a teacher's rationales to a small T5 student."""

__version__ = "0.1.0"


def train(config, **objects):
    """Trains a student: `train(TrainConfig(mixture_or_task_name="svamp", model_dir="runs/svamp"))`.

    Args:
      config: a `distill_jax.config.TrainConfig`.
      **objects: `model`, `optimizer` and `objective` in place of the configuration's, a `listener` to metrics,
        and a `planner`; see `training.trainer.train`. The default planner refuses a step that takes more memory
        than is free, by the configuration's optimizer, unless `check_memory` is off.

    Returns:
      The last training and validation metrics.

    Raises:
      UserError: for anything the user can set right.
    """
    from distill_jax.evaluation.evaluator import make_evaluator
    from distill_jax.planning import memory
    from distill_jax.training import trainer

    return trainer.train(config, **{"evaluator": make_evaluator, "planner": memory.of_run, **objects})


def pretrain(config, **objects):
    """Pretrains a student on text: `pretrain(PretrainConfig(texts=("text.txt",), model_dir="runs/text"))`.

    Args:
      config: a `distill_jax.config.PretrainConfig`.
      **objects: as of `train`.

    Returns:
      The last training metrics and those of the held-out text, `validation/text_perplexity` among them.

    Raises:
      UserError: for anything the user can set right.
    """
    from distill_jax.planning import memory
    from distill_jax.training import trainer

    return trainer.train(config, **{"planner": memory.of_run, **objects})


def load(
    model_dir: str,
    step: int | str | None = None,
    batch_size: int = 64,
    weights: str = "float32",
    verify: bool = True,
    trust: bool = False,
    engine: str = "jax",
):
    """A trained student, ready to predict: `load("runs/svamp").predict(["…"], rationale=True)`.

    Args:
      model_dir: the run's folder.
      step: of a checkpoint: a number, `latest` (or None) or `best`.
      batch_size: inputs per batch.
      weights: quantization of the weights: `float32` (none), `bfloat16` or `int8`.
      verify: compare the checkpoint's files with their checksums first.
      trust: import the modules that the run names, and follow its links: SECURITY.md says when to.
      engine: `jax`; `ctranslate2`, on a CPU, for a T5; or `auto`.

    Returns:
      A `distill_jax.decoding.predictor.Predictor`.

    Raises:
      UserError: when it is not the folder of a run, has no such checkpoint, or that is damaged; when it would
        run code, unless it is trusted; and where CTranslate2 is asked for and cannot run it.
    """
    from distill_jax.decoding.predictor import Predictor

    return Predictor(model_dir, step, batch_size, weights, verify, trust, engine)
