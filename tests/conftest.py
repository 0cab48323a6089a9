"""One compilation cache for the whole session: many tests train the same tiny student again."""

import dataclasses
import sys

import jax
import pytest

from distill_jax import tasks
from distill_jax.data import registry


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax_cache")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(autouse=True)
def forgotten_tasks():
    """A shipped task that a test registered in a registry of its own can be registered again."""
    yield
    for name, module in tasks.MODULES.items():
        if name not in registry._tasks:
            sys.modules.pop(f"distill_jax.tasks.{module}", None)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """(method) -> the folder of an untrained run on the task `entailment`, with a checkpoint of step 0."""
    from distill_jax.data.vocabularies import load_vocabulary
    from distill_jax.models.config import T5Config
    from distill_jax.models.t5 import Transformer
    from distill_jax.training import run_dir, train_state
    from distill_jax.training.checkpoints import Checkpointer
    from distill_jax.training.optimizers import adamw

    config = T5Config(
        vocab_size=384,
        emb_dim=16,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        head_dim=8,
        mlp_dim=32,
    )
    params = train_state.init_params(Transformer(config), 1)
    made = {}

    def make(method):
        if method not in made:
            folder = str(tmp_path_factory.mktemp(method))
            lengths = {"inputs": 160, "targets": 12}
            name = f"entailment_{method}"
            run = run_dir.Run(name, "gold", None, lengths, "bytes", "", dataclasses.asdict(config), 4, 0, {})
            run_dir.claim(folder, run)
            load_vocabulary("bytes").save(folder)
            checkpointer = Checkpointer(folder, keep=None, keep_best=0, metric="label_accuracy")
            checkpointer.save(train_state.create(params, adamw(1e-3)), {})
            checkpointer.close()
            made[method] = folder
        return made[method]

    return make
