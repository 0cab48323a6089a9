"""T5X itself reads what we write and writes what we read; skipped where it is not installed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import core

from distill_jax.checkpoints.convert import convert
from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
from distill_jax.checkpoints.other_formats.parameters import from_tree, to_tree
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.config import ConvertConfig
from distill_jax.models.t5 import Transformer

pytest.importorskip("t5x", reason="T5X is for parity tests only")
from t5x import adafactor, checkpoints, partitioning, utils
from t5x import train_state as t5x_train_state
from t5x.examples.t5 import network


def t5x_state(config, seed, scan=False, optimizer=True):
    """A T5X train state of the same architecture; of our network where its layers are scanned."""
    if scan:
        module = Transformer(dataclasses.replace(config, scan_layers=True))
    else:
        shared = {f.name for f in dataclasses.fields(network.T5Config)}
        fields = {k: v for k, v in dataclasses.asdict(config).items() if k in shared}
        module = network.Transformer(network.T5Config(**fields))
    tokens = jnp.ones((1, 8), jnp.int32)
    variables = module.init(jax.random.key(seed), tokens, tokens, tokens, enable_dropout=False)
    if not optimizer:
        return t5x_train_state.InferenceState.create(core.freeze(variables))
    rules = adafactor.standard_logical_factor_rules()
    return t5x_train_state.FlaxOptimTrainState.create(
        adafactor.Adafactor(learning_rate=0.1, logical_factor_rules=rules), core.freeze(variables)
    )


def legacy(folder, state):
    return checkpoints.Checkpointer(state, partitioning.PjitPartitioner(num_partitions=1), str(folder))


def orbax(folder, state):
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    return checkpoints.OrbaxCheckpointManagerInterface(str(folder), state, partitioner)


def params_of(state):
    return jax.device_get(core.unfreeze(state.params))


@pytest.mark.parametrize("manager", [legacy, orbax])
@pytest.mark.parametrize("scan", [False, True])
def test_what_t5x_writes_is_read(make_student, assert_same, tmp_path, manager, scan):
    config, _ = make_student()
    state = t5x_state(config, 1, scan).replace_step(jnp.int32(7))
    tmp_path.joinpath("out").mkdir()
    saver = manager(tmp_path / "out", state)
    saver.save(state)
    if manager is orbax:
        saver.wait_until_finished()
    checkpoint = open_checkpoint(str(tmp_path / "out"))
    assert checkpoint.format == ("t5x" if manager is legacy else "t5x-orbax")
    assert checkpoint.step == 7 and checkpoint.model_config() == config
    assert_same(checkpoint.parameters, to_tree(from_tree(params_of(state))))


@pytest.mark.parametrize(
    ("manager", "scan", "ocdbt"),
    [
        (legacy, False, True),
        (legacy, True, True),
        (orbax, False, True),
        (orbax, True, True),
        (orbax, False, False),
    ],
)
def test_t5x_restores_what_we_write(make_student, assert_same, tmp_path, manager, scan, ocdbt):
    config, params = make_student()
    write_huggingface(tmp_path / "hf", from_tree(params), config)
    to = "t5x" if manager is legacy else "t5x-orbax"
    convert(
        ConvertConfig(
            source=str(tmp_path / "hf"),
            destination=str(tmp_path / "out"),
            to=to,
            step=7,
            scan_layers=scan,
            ocdbt=ocdbt,
        )
    )
    path = str(tmp_path / "out" / "checkpoint_7")
    # To evaluate and infer: T5X restores the step and the parameters.
    state = t5x_state(config, 2, scan, optimizer=False)
    restored = manager(tmp_path / "out", state).restore(path=path)
    assert int(restored.step) == 7
    assert_same(from_tree(params_of(restored)), params)
    # To train, as docs/checkpoints.md says: the optimizer's state, which is not there, is a new one.
    state = t5x_state(config, 2, scan)
    recipe = utils.RestoreCheckpointConfig(
        path=path,
        mode="specific",
        assignment_map=((r"state/param_states.*", None),),
        fallback_to_scratch=True,
    )
    restored = manager(tmp_path / "out", state).restore(
        path=path,
        fallback_state=utils.get_fallback_state(recipe, lambda _: state.state_dict(), jax.random.key(0)),
        state_transformation_fns=recipe.state_transformation_fns,
    )
    assert int(restored.step) == 7
    assert_same(from_tree(params_of(restored)), params)
    np.testing.assert_array_equal(
        *(
            s.state_dict()["state"]["param_states"]["token_embedder"]["embedding"]["v"]
            for s in (state, restored)
        )
    )


def test_t5x_without_a_state_loads_ours(make_student, assert_same, tmp_path):
    config, params = make_student()
    write_huggingface(tmp_path / "hf", from_tree(params), config)
    convert(ConvertConfig(source=str(tmp_path / "hf"), destination=str(tmp_path / "out"), to="t5x", step=7))
    loaded = checkpoints.load_t5x_checkpoint(str(tmp_path / "out"))
    assert_same(from_tree(loaded["target"]), params)
    assert loaded["state"]["step"] == 7
