"""Prepare: a task's views, tokenized and packed once, as ArrayRecord with a manifest.

The folder's name is a hash of everything the records depend on, so a prepared set is found again, or made
anew. It is written beside its place and renamed when whole: half a set never loads.
"""

import dataclasses
import errno
import hashlib
import itertools
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from distill_jax.data import registry
from distill_jax.data.packing import pack as pack_rows
from distill_jax.data.records import Segment, encode_row
from distill_jax.data.registry import DistillationTask
from distill_jax.data.schema import Example
from distill_jax.data.views import TASK_IDS, View
from distill_jax.data.vocabularies import EOS_ID, cache_dir, load_vocabulary, train_vocabulary
from distill_jax.errors import UserError

FORMAT = 2  # raise it when the records would differ for the same arguments
WINDOW = 8192  # examples that are tokenized and packed together, and held in memory
log = logging.getLogger("distill_jax")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared split.

    Attributes:
      path: the folder, for `loader.Loader`.
      key: hash of what the records depend on.
      vocabulary: spec for `load_vocabulary`.
      manifest: what `manifest.json` holds: counts of rows, examples and tokens, and the fill.
    """

    path: pathlib.Path
    key: str
    vocabulary: str
    manifest: dict[str, Any]


def resolve_vocabulary(spec: str, task: DistillationTask) -> str:
    """`spec` itself, or for `train:SIZE` the folder of a vocabulary trained on the task's train text.

    All fields of the examples count, whatever the method, so that methods share one vocabulary.
    """
    if not spec.startswith("train:"):
        return spec
    size = spec.removeprefix("train:")
    if not size.isdigit() or int(size) < 300:
        raise UserError(f"vocabulary {spec!r}: expected train:SIZE with a size of 300 or more")
    parts = [task.name, task.source.fingerprint("train"), task.label_prefix, task.rationale_prefix]
    key = hashlib.sha256(json.dumps([*parts, size, FORMAT]).encode()).hexdigest()[:16]
    folder = cache_dir() / "vocabularies" / f"{task.name}-{size}-{key}"
    if not folder.exists():
        train_vocabulary(_texts(task), int(size), folder)
    return str(folder)


def _texts(task: DistillationTask) -> Iterator[str]:
    for example in task.source.examples("train"):
        yield task.label_prefix + example.input
        yield task.rationale_prefix + example.input
        for text in (example.label, example.teacher_label, example.rationale):
            if text is not None:
                yield text


def _chosen(
    task: DistillationTask, split: str, data_fraction: float, num_examples: int | None, seed: int
) -> Iterator[tuple[int, Example]]:
    """(number, example) of the chosen part of a split, in the order of the source.

    The part is the first `k` of a permutation that depends on `seed` alone: smaller parts lie in
    larger ones, and all methods see the same.
    """
    if not 0.0 < data_fraction <= 1.0:
        raise UserError(f"DATA_FRACTION must lie in (0, 1], got {data_fraction}")
    if data_fraction == 1.0 and num_examples is None:
        yield from enumerate(task.source.examples(split))
        return
    size = sum(1 for _ in task.source.examples(split))
    count = round(size * data_fraction) if num_examples is None else num_examples
    if not 0 < count <= size:
        raise UserError(f"cannot take {count} examples of the {size} in {task.name} {split}")
    chosen = set(np.random.default_rng(seed).permutation(size)[:count].tolist())
    for number, example in enumerate(task.source.examples(split)):
        if number in chosen:
            yield number, example


@dataclasses.dataclass
class _Counts:
    examples: int = 0
    rows: int = 0
    views: dict[str, int] = dataclasses.field(default_factory=dict)
    without_target: dict[str, int] = dataclasses.field(default_factory=dict)
    truncated_inputs: int = 0
    truncated_targets: int = 0
    encoder_tokens: int = 0
    decoder_tokens: int = 0


def _tokenize(
    examples: Sequence[tuple[int, Example]],
    views: Sequence[View],
    vocabulary,
    lengths: Mapping[str, int],
    counts: _Counts,
) -> list[Segment]:
    """All views of some examples, cut to the lengths, each with the end token."""
    numbers, task_ids, inputs, targets = [], [], [], []
    for number, example in examples:
        counts.examples += 1
        for view in views:
            texts = view(example)
            if texts is None:
                counts.without_target[view.name] += 1
                continue
            counts.views[view.name] += 1
            numbers.append(number)
            task_ids.append(TASK_IDS[view.name])
            inputs.append(texts[0])
            targets.append(texts[1])
    inputs_room, targets_room = lengths["inputs"] - 1, lengths["targets"] - 1
    segments = []
    for number, task_id, source, target in zip(
        numbers,
        task_ids,
        vocabulary.encode_batch(inputs),
        vocabulary.encode_batch(targets),
        strict=True,
    ):
        counts.truncated_inputs += len(source) > inputs_room
        counts.truncated_targets += len(target) > targets_room
        source, target = [*source[:inputs_room], EOS_ID], [*target[:targets_room], EOS_ID]
        counts.encoder_tokens += len(source)
        counts.decoder_tokens += len(target)
        segments.append(Segment(source, target, task_id, number))
    return segments


def _rows(segments: Sequence[Segment], lengths: Mapping[str, int], pack: bool) -> Iterable[list]:
    if not pack:
        return ([segment] for segment in segments)
    sizes = np.array([(len(s.inputs), len(s.targets)) for s in segments], np.int64).reshape(-1, 2)
    packed = pack_rows(sizes, (lengths["inputs"], lengths["targets"]))
    return ([segments[item] for item in row] for row in packed)


def _write(folder: pathlib.Path, windows: Iterable, lengths, pack, counts: _Counts) -> None:
    writer = ArrayRecordWriter(str(folder / "rows.array_record"), "group_size:1")
    try:
        for segments in windows:
            for row in _rows(segments, lengths, pack):
                writer.write(encode_row(row))
                counts.rows += 1
    finally:
        writer.close()


def prepare(
    mixture_or_task_name: str,
    split: str,
    *,
    vocabulary: str,
    task_feature_lengths: Mapping[str, int],
    pack: bool = True,
    label_source: str = "gold",
    data_fraction: float = 1.0,
    num_examples: int | None = None,
    seed: int = 0,
    module: str | None = None,
    max_truncated: float = 0.05,
) -> Prepared:
    """Prepares a split, or finds it prepared.

    Args:
      mixture_or_task_name: such as `svamp_step_by_step`; see `registry.resolve`.
      split: train, validation or test.
      vocabulary: see `load_vocabulary`, or `train:SIZE`.
      task_feature_lengths: `{"inputs": L, "targets": T}`, the end token included; what is longer is cut.
      pack: several examples to a row of these lengths; else one.
      label_source: gold or teacher.
      data_fraction: share of the split's examples to take.
      num_examples: or their number.
      seed: of which ones these are.
      module: of the task, if it is not shipped.
      max_truncated: warns when a larger share of the targets is cut.

    Raises:
      UserError: for unusable arguments or data, and for a full disk.
    """
    with registry.without_seqio():
        task, views = registry.resolve(mixture_or_task_name, label_source, module)
    if split not in task.source.splits:
        raise UserError(f"task {task.name} has no split {split!r}: {', '.join(task.source.splits)}")
    lengths = {name: task_feature_lengths.get(name) for name in ("inputs", "targets")}
    if any(not isinstance(n, int) or n < 2 for n in lengths.values()):
        raise UserError(
            "TASK_FEATURE_LENGTHS: expected {'inputs': N, 'targets': N} with numbers from 2, got "
            f"{dict(task_feature_lengths)}"
        )
    vocabulary = resolve_vocabulary(vocabulary, task)
    tokenizer = load_vocabulary(vocabulary)
    description = {
        "mixture_or_task_name": mixture_or_task_name,
        "split": split,
        "views": [dataclasses.asdict(view) for view in views],
        "vocabulary": tokenizer.fingerprint,
        "task_feature_lengths": lengths,
        "pack": pack,
        "data_fraction": data_fraction,
        "num_examples": num_examples,
        "seed": seed,
        "data": task.source.fingerprint(split),
        "format": FORMAT,
    }
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir() / "prepared" / f"{mixture_or_task_name}-{split}-{key}"
    if (folder / "manifest.json").exists():
        manifest = json.loads((folder / "manifest.json").read_text())
        return Prepared(folder, key, vocabulary, manifest)

    names = [view.name for view in views]
    counts = _Counts(views=dict.fromkeys(names, 0), without_target=dict.fromkeys(names, 0))
    examples = _chosen(task, split, data_fraction, num_examples, seed)
    windows = (
        _tokenize(window, views, tokenizer, lengths, counts)
        for window in iter(lambda: list(itertools.islice(examples, WINDOW)), [])
    )
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        temporary.mkdir(parents=True)
        _write(temporary, windows, lengths, pack, counts)
        if not counts.rows:
            raise UserError(f"{task.name} {split}: no example has a target for {' or '.join(names)}")
        manifest = _manifest(description, counts)
        with (temporary / "manifest.json").open("w") as file:
            json.dump(manifest, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        if not folder.exists():
            temporary.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{folder.parent}: no space left on the disk to prepare {mixture_or_task_name}: free "
                "some, or set DISTILL_JAX_CACHE to another disk"
            ) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _warn(manifest, mixture_or_task_name, max_truncated)
    return Prepared(folder, key, vocabulary, manifest)


def _manifest(description: dict[str, Any], counts: _Counts) -> dict[str, Any]:
    lengths = description["task_feature_lengths"]
    return (
        description
        | dataclasses.asdict(counts)
        | {
            "encoder_fill": counts.encoder_tokens / (counts.rows * lengths["inputs"]),
            "decoder_fill": counts.decoder_tokens / (counts.rows * lengths["targets"]),
        }
    )


def _warn(manifest: Mapping[str, Any], name: str, max_truncated: float) -> None:
    segments = sum(manifest["views"].values())
    cut = manifest["truncated_targets"]
    if cut > max_truncated * segments:
        log.warning(
            "warning: %s %s: %d of %d targets are longer than %d tokens and were cut "
            "(raise TASK_FEATURE_LENGTHS)",
            name,
            manifest["split"],
            cut,
            segments,
            manifest["task_feature_lengths"]["targets"],
        )
