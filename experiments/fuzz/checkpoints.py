"""The readers of a run's folder, of checkpoints, vocabularies and prepared records, fed with hostile files."""

import functools
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from distill_jax import checksums
from distill_jax.checkpoints import run_dir
from distill_jax.checkpoints.convert import convert
from distill_jax.checkpoints.layout import CHECKPOINTS, CONFIG, DATA, METRICS, RUN, SCORES, STATE
from distill_jax.checkpoints.orbax import Checkpointer, load_scores
from distill_jax.checkpoints.other_formats.tokenizer_files import read_tokenizer, write_tokenizer
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.config import ConvertConfig, ExportConfig, PrepareConfig
from distill_jax.data.loader import Loader
from distill_jax.data.prepare import prepare
from distill_jax.data.vocabularies import load_vocabulary, train_vocabulary
from distill_jax.decoding.student import load_student
from distill_jax.experiments.fuzz.target import Target, lines
from distill_jax.experiments.report import inputs
from distill_jax.export.card import card
from distill_jax.export.facts import gather
from distill_jax.models.config import T5Config
from distill_jax.models.families import describe, make_network
from distill_jax.tasks.resolve import resolve
from distill_jax.training import train_state
from distill_jax.training.optimizers import adamw

NETWORK = T5Config(
    vocab_size=384, emb_dim=8, num_heads=2, head_dim=4, mlp_dim=8, num_encoder_layers=1, num_decoder_layers=1
)
LENGTHS = {"inputs": 64, "targets": 16}
EVALUATION = {"step": 0, "split": "test", "label_by": "generate", "label_accuracy": 0.5, "examples": 2}
EVALUATION |= {"label_accuracy_interval": [0.1, 0.9]}
DATA_OF_RUN = {
    "data": "key",
    "examples": 3,
    "views": {"label": 3},
    "dropped": {"agreeing": 1},
    "vocabulary": "bytes",
}
DATA_OF_RUN |= {"truncated_inputs": 0, "truncated_targets": 0, "data_fraction": 1.0}
REPORT = {
    "rows": 3,
    "answered": 2,
    "requests": 3,
    "tokens": 50,
    "usd": 0.1,
    "settings": {"model": "m", "samples": 1},
}
REPORT |= {"accuracy": {"value": 0.5, "rows": 2, "low": 0.1, "high": 0.9}}
OPTIONS = {"method": "standard", "batch_size": 4, "learning_rate": 1e-3, "lora_targets": ["mlp"]}


@functools.cache
def parameters() -> Any:
    """Random parameters, initialised once."""
    return train_state.init_params(make_network(NETWORK), 0)


def run(folder: pathlib.Path) -> None:
    """An untrained run with all its files, and a checkpoint of step 0."""
    model = describe(NETWORK)
    of_run = run_dir.Run("entailment_standard", "reference", None, LENGTHS, "bytes", "", model, 4, 0, {})
    run_dir.claim(str(folder), of_run)
    load_vocabulary("bytes").save(folder)
    checkpointer = Checkpointer(str(folder), keep=None, keep_best=0)
    checkpointer.save(train_state.create(parameters(), adamw(1e-3)), {})
    checkpointer.wait()
    checkpointer.record(0, ("label_accuracy", 0.5))
    checkpointer.close()
    (folder / CONFIG).write_text(json.dumps(OPTIONS))
    (folder / DATA).write_text(json.dumps(DATA_OF_RUN))
    (folder / METRICS).write_bytes(lines({"step": 1, "train/loss": 2.0}))
    (folder / "eval").mkdir()
    (folder / "eval" / METRICS).write_bytes(lines(EVALUATION))
    prediction = {"id": "a", "input": "x", "label": "1", "teacher_correct": True, "correct": True}
    (folder / "eval" / "test-0.jsonl").write_bytes(lines(prediction, prediction | {"id": "b"}))
    (folder / "teacher.json").write_text(json.dumps(REPORT))


def _converted(to: str, **options: Any) -> Callable[[pathlib.Path], None]:
    def make(folder: pathlib.Path) -> None:
        run(folder / "run")
        config = ConvertConfig(source=str(folder / "run"), destination=str(folder / "made"), to=to, **options)
        convert(config)

    return make


def _read_checkpoint(folder: pathlib.Path) -> None:
    checkpoint = open_checkpoint(str(folder), verify=False)
    checkpoint.model_config()
    checkpoint.vocabulary()
    for parameter in checkpoint.parameters.values():
        parameter.read()


def _above(name: str, read: Callable[[pathlib.Path], Any]) -> Callable[[pathlib.Path], Any]:
    """Reads the folder of that name above a file."""

    def read_above(path: pathlib.Path) -> None:
        read(next(parent for parent in path.parents if parent.name == name))

    return read_above


def _read_run(folder: pathlib.Path) -> None:
    load_student(str(folder))
    run_dir.read_config(str(folder))
    run_dir.read_data(str(folder))
    load_scores(str(folder))


def _read_card(folder: pathlib.Path) -> None:
    config = ExportConfig(model_dir=str(folder), teacher_report=str(folder / "teacher.json"))
    card(gather(config, load_student(str(folder)), 0, 3), config, {"model.safetensors": 4})


def _read_report(folder: pathlib.Path) -> None:
    inputs.read([str(folder)], "test", None)


def _records(folder: pathlib.Path) -> None:
    resolved = resolve(PrepareConfig(mixture_or_task_name="entailment_standard"))
    options = {"task_feature_lengths": LENGTHS, "num_examples": 4, "vocabulary": "bytes"}
    made = prepare(resolved.task, resolved.views, "train", cache_dir=str(folder / "cache"), **options).path
    made.rename(folder / "made")
    (folder / "made" / checksums.NAME).unlink()


def _read_records(folder: pathlib.Path) -> None:
    next(Loader(folder, 1, seed=0))


def _tokenizer(folder: pathlib.Path) -> None:
    words = ["a man sleeps", "two children play in the park", "near their house"] * 20
    vocabulary = train_vocabulary(words, 320)
    (folder / "theirs").mkdir(parents=True)
    write_tokenizer(folder / "theirs", vocabulary, 512)
    (folder / "alone").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / "theirs" / name, folder / "alone")
    vocabulary.save(folder / "ours")


def _read_vocabulary(folder: pathlib.Path) -> None:
    read = load_vocabulary if (folder / "vocabulary.json").exists() else read_tokenizer
    if (vocabulary := read(folder)) is not None:
        vocabulary.decode(vocabulary.encode("a man</s>is \u00fc"))
        _ = vocabulary.sentinels


def _of_run(file: str, read: Callable[[pathlib.Path], Any], form: str | None = "json") -> Target:
    return Target(_above("made", read), f"made/{file}", form=form, make=lambda folder: run(folder / "made"))


def _of_checkpoint(to: str, file: str, form: str | None = None, **options: Any) -> Target:
    return Target(_above("made", _read_checkpoint), f"made/{file}", form=form, make=_converted(to, **options))


def _of_vocabulary(folder: str, file: str, form: str | None = "json") -> Target:
    return Target(_above(folder, _read_vocabulary), f"{folder}/{file}", form=form, make=_tokenizer)


def _of_records(file: str, form: str | None = None) -> Target:
    return Target(_above("made", _read_records), f"made/{file}", form=form, make=_records)


_STATE = f"{CHECKPOINTS}/0/{STATE}"
_ARRAY = "checkpoint_0/target.decoder.decoder_norm.scale"
TARGETS: dict[str, Target] = {
    "run.json": _of_run(RUN, _read_run),
    "run's config.json": _of_run(CONFIG, _read_card),
    "data.json": _of_run(DATA, _read_card),
    "scores.json": _of_run(SCORES, _read_card),
    "evaluations": _of_run(f"eval/{METRICS}", _read_card, "lines"),
    "teacher's report": _of_run("teacher.json", _read_card),
    "metrics.jsonl": _of_run(METRICS, _read_report, "lines"),
    "run's predictions": _of_run("eval/test-0.jsonl", _read_report, "lines"),
    "checksums.txt": Target(
        lambda path: checksums.damaged(path.parent),
        f"made/{CHECKPOINTS}/0/{checksums.NAME}",
        make=lambda folder: run(folder / "made"),
    ),
    "Orbax, metadata": _of_run(f"{_STATE}/_METADATA", _read_checkpoint),
    "Orbax, OCDBT": _of_run(f"{_STATE}/manifest.ocdbt", _read_checkpoint, None),
    "T5X, msgpack": _of_checkpoint("t5x", "checkpoint_0/checkpoint", "msgpack"),
    "T5X, Zarr": _of_checkpoint("t5x", f"{_ARRAY}/.zarray", "json"),
    "T5X, chunk": _of_checkpoint("t5x", f"{_ARRAY}/0"),
    "T5X, Orbax": _of_checkpoint("t5x-orbax", f"checkpoint_0/{STATE}/_METADATA", "json", ocdbt=False),
    "Hugging Face, config": _of_checkpoint("huggingface", "config.json", "json"),
    "Hugging Face, safetensors": _of_checkpoint("huggingface", "model.safetensors", "safetensors"),
    "Hugging Face, index": _of_checkpoint("huggingface", "model.safetensors.index.json", "json", shard_gb=1e-5),
    "vocabulary.json": _of_vocabulary("ours", "vocabulary.json"),
    "SentencePiece": _of_vocabulary("ours", "vocabulary.model", None),
    "tokenizer_config.json": _of_vocabulary("theirs", "tokenizer_config.json"),
    "tokenizer.json": _of_vocabulary("alone", "tokenizer.json"),
    "records, manifest": _of_records("manifest.json", "json"),
    "records, rows": _of_records("rows.array_record"),
    "records, label tokens": _of_records("label_tokens.npy"),
}
