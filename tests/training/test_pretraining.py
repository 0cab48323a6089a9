"""Whole runs that pretrain a tiny student on text."""

import dataclasses
import gzip
import itertools
import json
import math
import zlib

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from tiny_student import TINY

import distill_jax
from distill_jax.checkpoints import orbax
from distill_jax.config import PretrainConfig, TrainConfig
from distill_jax.data.loader import balanced_order
from distill_jax.data.records import decode_row
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.decoding.student import load_student
from distill_jax.errors import UserError
from distill_jax.training import train_state, trainer
from distill_jax.training.build import build

SHAPE = dataclasses.asdict(TINY)
LLAMA = {"model_family": "llama", "vocab_size": 384, "num_encoder_layers": 0, "logits_via_embedding": True}
LLAMA |= {"num_kv_heads": 2, "mlp_activations": ("gelu", "linear")}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """40 documents."""
    names = ["a dog", "a man", "two girls", "the old cat", "nobody"]
    places = ["in the park", "at home", "on the red bench", "in a boat", "near the sea"]
    lines = [f"{names[n % 5]} is {places[n // 5 % 5]} for {n} days" for n in range(40)]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(lines))
    return str(path)


def config_of(folder, text, **changes):
    options = {
        **SHAPE,
        "model_dir": str(folder),
        "texts": (text,),
        "initial_checkpoint_path": "none",
        "vocabulary": "train:400",
        "task_feature_lengths": {"inputs": 40, "targets": 16},
        "held_out": 0.1,
        "schedule": "constant",
        "learning_rate": 1e-2,
        "batch_size": 4,
        "train_steps": 4,
        "log_period": 1,
        "eval_period": 0,
        "checkpoint_period": 2,
    }
    return PretrainConfig(**options | changes)


def metrics_of(folder, name="train/loss"):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def undisturbed(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    distill_jax.pretrain(config_of(folder, text, eval_period=4))
    return folder


def cross_entropies(model, params, inputs, start, targets):
    """Of the targets' tokens, one pair at a time and without segments: float64 [targets]."""
    arrays = [np.array([part], np.int32) for part in (inputs, [start, *targets[:-1]], targets)]
    logits = np.asarray(model.apply({"params": params}, *arrays, enable_dropout=False), np.float64)[0]
    log_z = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    return log_z - logits[np.arange(len(targets)), targets]


def stored_rows(run):
    reader = ArrayRecordReader(str(run.records.path / "rows.array_record"))
    return [decode_row(reader.read([number])[0]) for number in range(reader.num_records())]


def t5_pair(tokens, seed, epoch, last_id):
    """(inputs, targets) by the words of T5's paper and package, one span after the other."""
    random = np.random.default_rng((seed, epoch, zlib.crc32(np.array(tokens, np.int32).tobytes())))
    taken = max(1, round(0.15 * len(tokens)))
    spans = max(1, round(taken / 3))
    lengths = []
    for total in (taken, len(tokens) - taken):
        cuts = sorted(1 + int(cut) for cut in random.choice(total - 1, spans - 1, replace=False))
        lengths.append([b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)])
    inputs, targets, rest = [], [], list(tokens)
    for number, (noise, kept) in enumerate(zip(*lengths, strict=True)):
        inputs += [*rest[:kept], last_id - number]
        targets += [last_id - number, *rest[kept : kept + noise]]
        rest = rest[kept + noise :]
    return [*inputs, 1], [*targets, 1]


def test_the_loss_is_that_of_t5s_span_corruption_by_hand(undisturbed, text):
    run = build(config_of(undisturbed, text, model_dir=str(undisturbed) + "-new"))
    order = balanced_order(np.load(run.records.path / "label_tokens.npy"), 4, 0, 0)
    rows = stored_rows(run)
    params = train_state.init_params(run.model, 0)
    losses = []
    for window in (segment for row in order[:4] for segment in rows[row]):
        pair = t5_pair(window.inputs.tolist(), 0, 0, run.vocabulary.vocab_size - 1)
        assert len(pair[0]) <= 40 and len(pair[1]) <= 16
        losses += cross_entropies(run.model, params, pair[0], 0, pair[1]).tolist()
    assert metrics_of(undisturbed)[0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_resumed_run_has_the_same_curve(undisturbed, text, tmp_path):
    distill_jax.pretrain(config_of(tmp_path, text, eval_period=4, train_steps=2))
    distill_jax.pretrain(config_of(tmp_path, text, eval_period=4))
    assert metrics_of(tmp_path) == metrics_of(undisturbed)
    assert len(set(metrics_of(tmp_path))) == 4


def test_the_perplexity_of_held_out_text_is_that_of_its_loss(undisturbed):
    (loss,), (perplexity,) = (
        metrics_of(undisturbed, f"validation/text_{name}") for name in ("loss", "perplexity")
    )
    assert perplexity == pytest.approx(math.exp(loss))
    assert orbax.pick_step(str(undisturbed), "best") == 4


def test_packed_and_unpacked_rows_have_the_same_loss(text, tmp_path):
    losses, rows = [], []
    for pack in (True, False):
        options = {"pack": pack, "held_out": 0, "window": 30}
        options["task_feature_lengths"] = {"inputs": 120, "targets": 40}
        run = build(config_of(tmp_path / "none", text, **options))
        rows.append(run.records.manifest["rows"])
        changes = options | {"batch_size": rows[-1], "train_steps": 1}
        losses.append(distill_jax.pretrain(config_of(tmp_path / str(pack), text, **changes))["loss"])
    assert rows[0] < rows[1] / 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_decoder_only_student_continues_the_text(text, causal_vocabulary, tmp_path):
    causal_vocabulary.save(tmp_path / "vocabulary")
    changes = LLAMA | {"vocabulary": str(tmp_path / "vocabulary"), "train_steps": 1}
    changes["task_feature_lengths"] = {"inputs": 2, "targets": 30}
    run = build(config_of(tmp_path / "run", text, **changes))
    loss = distill_jax.pretrain(config_of(tmp_path / "run", text, **changes))["loss"]
    order = balanced_order(np.load(run.records.path / "label_tokens.npy"), 4, 0, 0)
    rows = stored_rows(run)
    params = train_state.init_params(run.model, 0)
    losses = []
    for segment in (segment for row in order[:4] for segment in rows[row]):
        tokens = [*segment.inputs.tolist(), segment.start, *segment.targets.tolist()]
        arrays = [np.array([part], np.int32) for part in (tokens[:1], tokens[1:-1], tokens[2:])]
        segments = {
            "encoder_segment_ids": np.ones_like(arrays[0]),
            "decoder_segment_ids": np.ones_like(arrays[1]),
        }
        logits = run.model.apply({"params": params}, *arrays, **segments, enable_dropout=False)
        log_probs = np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[0]
        losses += (-log_probs[np.arange(len(tokens) - 2), tokens[2:]]).tolist()
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert PretrainConfig(**LLAMA, texts=(text,)).task_feature_lengths == {"inputs": 2, "targets": 512}


def test_training_starts_from_a_pretrained_run_better_than_from_nothing(tmp_path):
    pretrained = config_of(tmp_path / "text", "", texts=(), task="entailment", train_steps=60, batch_size=8)
    distill_jax.pretrain(dataclasses.replace(pretrained, column=("input", "rationale"), num_examples=400))
    options = SHAPE | {
        "mixture_or_task_name": "entailment_step_by_step",
        "task_feature_lengths": {"inputs": 96, "targets": 48},
        "vocabulary": str(tmp_path / "text"),
        "schedule": "constant",
        "learning_rate": 1e-2,
        "batch_size": 4,
        "train_steps": 8,
        "num_examples": 40,
        "eval_period": 0,
    }
    losses = {}
    for start in ("text", "none"):
        init = str(tmp_path / "text") if start == "text" else "none"
        changes = {"model_dir": str(tmp_path / f"from_{start}"), "initial_checkpoint_path": init}
        losses[start] = trainer.train(TrainConfig(**options | changes))["loss"]
    assert losses["text"] < losses["none"] - 0.2


def test_a_pretrained_run_has_no_task_to_be_asked(undisturbed):
    with pytest.raises(UserError, match="was pretrained, or .*: start a student from it with train --init"):
        load_student(str(undisturbed))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"texts": ()}, "no value for TEXT .TEXTS.: give text files, or a task such as svamp with --task"),
        ({"vocabulary": "bytes"}, "the vocabulary has 0 sentinels"),
        ({"task_feature_lengths": {"inputs": 40, "targets": 8}}, "give --lengths 40,10"),
        ({"column": ("why",), "task": "entailment"}, "--column why: a task's examples have input"),
    ],
)
def test_what_cannot_be_pretrained_on_is_told_in_one_line(changes, message, text, tmp_path):
    with pytest.raises(UserError, match=message) as raised:
        distill_jax.pretrain(config_of(tmp_path / "run", text, **changes))
    assert "\n" not in str(raised.value)


def test_a_vocabulary_of_the_text_has_as_many_sentinels_as_its_windows_need(text, tmp_path):
    changes = {"task_feature_lengths": {"inputs": 2400, "targets": 600}, "train_steps": 1, "batch_size": 1}
    run = build(config_of(tmp_path, text, **changes))
    vocabulary = load_vocabulary(run.records.vocabulary)
    assert len(vocabulary.sentinels) == len(run.records.manifest["corruption"]["sentinels"]) > 100


def test_the_shared_text(shared_text, tmp_path):
    part = tmp_path / "part.txt.gz"
    with gzip.open(shared_text, "rt") as whole, gzip.open(part, "wt") as file:
        file.writelines(itertools.islice(whole, 3000))
    lengths = {"inputs": 512, "targets": 114}
    manifest = build(config_of(tmp_path, str(part), task_feature_lengths=lengths)).records.manifest
    assert manifest["examples"] == 2700 and manifest["unknown_tokens"] == 0
    assert manifest["encoder_fill"] > 0.95 and manifest["decoder_fill"] > 0.95
