"""T5X's trainer, with what a loss needs of the whole batch made before the batch is split."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from cached_property import cached_property
from flax.core import unfreeze
from t5x import train_state as train_states
from t5x import trainer


class _Bound:
    """A partitioned step with its last argument given: callable, and through `lower` and `compile`."""

    def __init__(self, step: Any, last: Any):
        self._step, self._last = step, last

    def __call__(self, *args):
        return self._step(*args, self._last)

    def lower(self, *args) -> "_Bound":
        return _Bound(self._step.lower(*args, self._last), self._last)

    def compile(self) -> "_Bound":
        return _Bound(self._step.compile(), self._last)


def with_view_means(trainer_cls: type[trainer.Trainer] = trainer.Trainer) -> type[trainer.Trainer]:
    """`trainer_cls` for a `DistillationModel`: equal losses whatever `num_microbatches` is.

    It is a class of the same constructor, so T5X's bindings of `trainer.Trainer` hold for it.
    """

    class ViewMeansTrainer(trainer_cls):
        """T5X's trainer; see `with_view_means`."""

        @cached_property
        def _teacher(self):
            """The teacher's parameters on the mesh, and their partition specs; empty without a teacher."""
            model = self._model
            if model.teacher_params is None:
                return {}, {}
            tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
            init = partial(model.objective.teacher_model.init, enable_dropout=False)
            shapes = jax.eval_shape(init, jax.random.key(0), tokens, tokens, tokens)
            state = train_states.InferenceState.create(shapes)
            axes = unfreeze(self._partitioner.get_mesh_axes(state).params)
            mesh = self._partitioner.mesh
            put = lambda x, spec: jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))  # noqa: E731
            return jax.tree.map(put, model.teacher_params, axes), axes

        def _partition(self, step: Callable, **options) -> _Bound:
            teacher, axes = self._teacher
            partitioned = self._partitioner.partition(
                step,
                in_axis_resources=(self._train_state_axes, self._partitioner.data_partition_spec, axes),
                **options,
            )
            return _Bound(partitioned, teacher)

        @cached_property
        def _partitioned_train_step(self) -> trainer.PartitionedTrainCallable:
            def train_step(train_state, batch, teacher):
                return trainer.train_with_lr(
                    train_state,
                    self._model.with_shares(batch),
                    learning_rate=self._learning_rate_fn(train_state.step),
                    dropout_rng=self._get_step_rng(train_state.step),
                    model=self._model.with_teacher(teacher),
                    num_microbatches=self._num_microbatches,
                    weight_metrics_computer=self._weight_metrics_computer,
                    data_partition_spec=self._partitioner.data_partition_spec,
                )

            return self._partition(
                train_step, out_axis_resources=(self._train_state_axes, None), donate_argnums=(0,)
            )

        @cached_property
        def _partitioned_eval_step(self) -> trainer.PartitionedEvalCallable:
            def eval_step(train_state, batch, teacher):
                return trainer.eval_step(self._model.with_teacher(teacher), train_state, batch)

            return self._partition(eval_step, out_axis_resources=None)

    return ViewMeansTrainer
