"""Every test, and every process that a test starts, compiles quickly and shares what is compiled.

Compilation takes most of the tests' time. XLA leaves out what only makes programs faster, and one folder holds
the compiled programs of the session, for all of pytest's workers and their children. JAX notes no place in the
sources for each operation that it traces.

A worker gets whole files. Those of training come first: they take longest, and none is left for the end. Next
come those of no folder, in which whole commands run and which the alphabet has last.
"""

import collections
import dataclasses
import gc
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile

import hypothesis
import jax
import jax.monitoring
import pytest

from distill_jax.data.completions.svamp import parse_svamp
from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource, HeldOutSource, ReferenceSource
from distill_jax.errors import UserError
from distill_jax.tasks.registry import REGISTRY, register_distillation_task

sys.path.append(str(pathlib.Path(__file__).parent / "peers"))  # for the tests of several folders
SHARED = pathlib.Path(os.environ.get("DISTILL_JAX_SHARED") or pathlib.Path(__file__).parents[2] / "shared")
CHEAP_COMPILATION = " ".join(
    (
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",  # small programs: splitting one costs more than it saves
    )
)
CACHE = pytest.StashKey[str]()
# A busy machine fails no test: Hypothesis' limits of time are off.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")
PROGRAMS = collections.Counter()  # "held": compiled since they were last forgotten
MANY_PROGRAMS = 400


def pytest_configure(config):
    """Sets flags and cache in the environment, from which workers and the tests' own processes have them."""
    if not hasattr(config, "workerinput"):
        config.stash[CACHE] = tempfile.mkdtemp(prefix="distill_jax_tests_")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = config.stash[CACHE]
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
        os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CHEAP_COMPILATION}".strip()
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    jax.config.update("jax_traceback_in_locations_limit", 0)
    jax.monitoring.register_event_duration_secs_listener(_count_programs)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # pytest-xdist would begin with the files of the most tests


def _count_programs(event, seconds, **details):
    PROGRAMS["held"] += event.endswith("/backend_compile_duration")


def pytest_collection_finish(session):
    """Tracing makes millions of objects, for which the garbage collector would look through all there are."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def usual_garbage_collection():
    """Python's own thresholds, for a test of how much memory is held."""
    seldom = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what other tests left would put off whole collections
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*seldom)


def pytest_collection_modifyitems(items):
    first = ("tests/training/", "tests/test_")
    items.sort(key=lambda item: [not item.nodeid.startswith(prefix) for prefix in first])


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    """Forgets compiled programs when a few hundred have come together: a worker would grow to several GB."""
    yield
    if PROGRAMS["held"] > MANY_PROGRAMS:
        PROGRAMS.clear()
        jax.clear_caches()


def pytest_terminal_summary(terminalreporter):
    """Prints what tests recorded by `record_property`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


def pytest_unconfigure(config):
    if CACHE in config.stash:
        shutil.rmtree(config.stash[CACHE], ignore_errors=True)


@pytest.fixture(autouse=True)
def forgotten_tasks():
    """What a test registers is gone afterwards."""
    before = set(REGISTRY.names())
    yield
    for name in set(REGISTRY.names()) - before:
        REGISTRY.remove(name)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """(method) -> the folder of an untrained run on the task `entailment`, with a checkpoint of step 0."""
    from tiny_student import TINY

    from distill_jax.checkpoints import run_dir
    from distill_jax.checkpoints.orbax import Checkpointer
    from distill_jax.data.vocabularies import load_vocabulary
    from distill_jax.models.t5 import Transformer
    from distill_jax.training import train_state
    from distill_jax.training.optimizers import adamw

    config = dataclasses.replace(TINY, vocab_size=384, dropout_rate=0.1)
    params = train_state.init_params(Transformer(config), 1)
    made = {}

    def make(method):
        if method not in made:
            folder = str(tmp_path_factory.mktemp(method))
            lengths = {"inputs": 160, "targets": 12}
            name = f"entailment_{method}"
            shape = dataclasses.asdict(config)
            run = run_dir.Run(name, "reference", None, lengths, "bytes", "", shape, 4, 0, {})
            run_dir.claim(folder, run)
            load_vocabulary("bytes").save(folder)
            checkpointer = Checkpointer(folder, keep=None, keep_best=0)
            checkpointer.save(train_state.create(params, adamw(1e-3)), {})
            checkpointer.close()
            made[method] = folder
        return made[method]

    return make


@pytest.fixture
def inside(monkeypatch):
    """Cells of a sweep run in this process; the list of their names in that order."""
    from distill_jax.experiments.sweep import cell, grid, run

    started = []

    def execute(command, log, devices, stops):
        file, root, name = command[4], pathlib.Path(command[6]), command[8]
        started.append(name)
        try:
            cell.run(grid.read(file).cell(name), root)
        except UserError as error:
            pathlib.Path(log).write_text(f"error: {error}\n")
            return 1
        return 0

    monkeypatch.setattr(run, "execute", execute)
    return started


@pytest.fixture
def datasets(monkeypatch):
    if not (SHARED / "datasets").is_dir():
        pytest.skip("no data sets beside the repository")
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(SHARED / "datasets"))
    return SHARED / "datasets"


@pytest.fixture
def samples(monkeypatch):
    if not (SHARED / "samples").is_dir():
        pytest.skip("no samples beside the repository")
    return SHARED / "samples"


@pytest.fixture
def shared_text():
    """A compressed file of text, a document a line."""
    paths = sorted((SHARED / "text").glob("*.txt.gz"))
    if not paths:
        pytest.skip("no text beside the repository")
    return paths[0]


def count_up(rng, name):
    first, second = rng.integers(0, 1000, 2)
    why = f"{first} and {second} more make {first + second}." * int(rng.integers(1, 4))
    total = str(first + second)
    return Example(name, f"{first} apples, then {second} more: how many?", total, total, why)


@pytest.fixture
def toy():
    """A generated task, `toy`, of 300, 20 and 20 examples."""
    source = GeneratedSource(count_up, {"train": 300, "validation": 20, "test": 20})
    return register_distillation_task("toy", source)


def read_row(row):
    return row["input"], row["label"]


class Files:
    """A task `files` in the reference layout, for a test to spoil."""

    def __init__(self, root: pathlib.Path, rows: int = 30, chunk: int = 20):
        self.folder = root / "files"
        (self.folder / "llm").mkdir(parents=True)
        self.source = HeldOutSource(ReferenceSource("files", read_row, parse_svamp))
        self.chunks = [min(chunk, rows - start) for start in range(0, rows, chunk)]
        for split in ("train", "test"):
            lines = [
                json.dumps({"input": f"{n} birds, {n} more\nHow many?", "label": f"( {n} + {n} )"})
                for n in range(rows)
            ]
            self.rows(split).write_text("\n".join(lines) + "\n")
            for k, size in enumerate(self.chunks):
                numbers = range(k * chunk, k * chunk + size)
                texts = [f"{n} and {n}. The answer is ({n} + {n}).\n\nQ: more" for n in numbers]
                self.completions(split, k).write_text(json.dumps(texts))

    def rows(self, split: str) -> pathlib.Path:
        return self.folder / f"files_{split}.json"

    def completions(self, split: str, k: int) -> pathlib.Path:
        return self.folder / "llm" / f"{split}_CoT_{k}.json"


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(tmp_path))
    files = Files(tmp_path)
    register_distillation_task("files", files.source)
    return files


@pytest.fixture(scope="session")
def causal_vocabulary():
    """A byte-level BPE vocabulary such as decoder-only models have; 0 is a token as any other."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    from distill_jax.data.vocabularies import CausalVocabulary

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    words = "a man is sleeping while two children play in the park near their house".split()
    tokenizer.train_from_iterator([" ".join(words[n:] + words[:n]) for n in range(len(words))], trainer)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return CausalVocabulary(tokenizer.to_str(), "<|im_end|>")


@pytest.fixture
def heard():
    """SIGINT as in a terminal, also where the tests run in the background, which a shell has ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
