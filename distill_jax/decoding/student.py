"""A trained student from its run's folder, ready to decode."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from distill_jax.checkpoints import orbax, reading, run_dir, trust
from distill_jax.checkpoints.layout import RUN
from distill_jax.data.task import DistillationTask
from distill_jax.data.views import View
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.decoding import ctranslate, engines
from distill_jax.decoding.engine import Engine
from distill_jax.decoding.engine_base import BaseEngine
from distill_jax.decoding.quantization import quantize
from distill_jax.errors import UserError
from distill_jax.models.families import Network, make_config, make_network
from distill_jax.tasks import registry


@dataclasses.dataclass(frozen=True)
class Student:
    """A run's folder as read: network, vocabulary, task and views; `params` reads a checkpoint."""

    model_dir: str
    run: run_dir.Run
    model: Network
    vocabulary: Vocabulary
    task: DistillationTask
    views: tuple[View, ...]

    def params(self, step: int | None = None, verify: bool = True) -> Any:
        """Parameters at `step`, or at the latest checkpoint; with `verify` compared with its checksums."""
        return reading.restore_params(self.model_dir, step, verify)

    def engine(
        self,
        step: int | str | None,
        batch_size: int,
        weights: str = "float32",
        verify: bool = True,
        engine: str = "jax",
    ) -> BaseEngine:
        """Decodes and scores with the parameters of `params(step, verify)`; for `weights` see `quantize`.

        Raises UserError where the engine that is asked for cannot be had; see `engines.pick`.
        """
        shared = (self.vocabulary, self.lengths["inputs"], batch_size)

        def in_jax() -> BaseEngine:
            return Engine(quantize(self.params(step, verify), weights), self.model, *shared)

        def in_ctranslate2() -> BaseEngine:
            number = orbax.pick_step(self.model_dir, step)
            folder = ctranslate.written(self.model_dir, number, self.vocabulary.eos_id, weights, verify)
            return ctranslate.CTranslateEngine(folder, weights, *shared)

        return engines.pick(engine, self.model.config, weights, in_jax=in_jax, in_ctranslate2=in_ctranslate2)

    @property
    def lengths(self) -> Mapping[str, int]:
        """`{"inputs": …, "targets": …}` of the run."""
        return self.run.task_feature_lengths


def load_student(model_dir: str, data_dir: str | None = None, trusted: bool = False) -> Student:
    """Reads a run's folder; `data_dir` has the data sets of a task that reads files.

    Raises:
      UserError: when it is not the folder of a run, and see `trust.load`.
    """
    run = trust.load(model_dir, trusted)
    if not run.mixture_or_task_name:
        raise UserError(
            f"{model_dir}: was pretrained, or converted without a task: start a student from it with "
            f"train --init {model_dir}, or convert it again with --task NAME, such as svamp_step_by_step"
        )
    origin = {"data_dir": data_dir, "teacher": run.teacher_name, "own_data": run.own_data}
    try:
        task, views = registry.resolve(run.mixture_or_task_name, run.label_source, run.module, **origin)
    except UserError as error:
        raise UserError(f"{pathlib.Path(model_dir) / RUN}: {error}") from None
    model = make_network(make_config(run.model))
    return Student(model_dir, run, model, run_dir.vocabulary_of(model_dir, run), task, views)
