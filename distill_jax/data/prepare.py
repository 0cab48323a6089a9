"""Prepare: a task's views, tokenized and packed once, as ArrayRecord with a manifest.

The folder's name is a hash of everything the records depend on, so a prepared set is found again,
or made anew. It is written beside its place and renamed when whole: half a set never loads.
"""

import collections
import dataclasses
import errno
import hashlib
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from distill_jax.data import cache
from distill_jax.data.packing import pack as pack_rows
from distill_jax.data.records import Segment, encode_row
from distill_jax.data.schema import Example
from distill_jax.data.selection import Filters, keep, share
from distill_jax.data.tokenization import Counts, new_counts, tokenize
from distill_jax.data.views import TASK_IDS, View, share_inputs, soften
from distill_jax.data.vocabularies import load_vocabulary, train_vocabulary
from distill_jax.errors import UserError
from distill_jax.tasks import registry
from distill_jax.tasks.registry import DistillationTask

FORMAT = 8  # raise it when the records would differ for the same arguments
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


def resolve_vocabulary(spec: str, task: DistillationTask, cache_dir: str | os.PathLike | None = None) -> str:
    """`spec` itself, or for `train:SIZE` the folder of a vocabulary made of the task's train text.

    All fields of the examples count, whatever the method, so that methods share one vocabulary.

    Raises:
      UserError: for a size that is no number, or that the text is too small or too rich for.
    """
    if not spec.startswith("train:"):
        return spec
    size = spec.removeprefix("train:")
    if not size.isdecimal() or int(size) < 300:
        raise UserError(f"vocabulary {spec!r}: expected train:SIZE with a size of 300 or more")
    parts = [task.name, task.source.fingerprint("train"), task.label_prefix, task.rationale_prefix]
    key = hash_of([*parts, size, FORMAT])
    root = pathlib.Path(cache_dir or cache.cache_dir())
    folder = root / "vocabularies" / f"{task.name}-{size}-{key}"
    if not folder.exists():
        with cache.new_folder(folder) as temporary:
            train_vocabulary(texts(task), int(size)).save(temporary)
    return str(folder)


def hash_of(value: Any) -> str:
    """Short hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def texts(task: DistillationTask) -> Iterator[str]:
    """All text of a task's train split, whatever the method: what a vocabulary is trained on."""
    for example in task.source.examples("train"):
        yield task.label_prefix + example.input
        yield task.rationale_prefix + example.input
        for text in (example.label, example.teacher_label, example.rationale):
            if text is not None:
                yield text


def _checked(
    examples: Iterable[tuple[int, Example]],
    task: DistillationTask,
    split: str,
    views: Sequence[View],
) -> Iterator[tuple[int, Example]]:
    """Passes the examples on. A missing gold label is an error, what a teacher left out is not."""
    needs_label = any("label" in (view.target, view.answer) and not view.soft for view in views)
    for number, example in examples:
        if any(view.soft for view in views):
            try:
                soften(example, task.classes)
            except ValueError as error:
                raise UserError(f"{task.source.where(split, number)}: {error}") from None
        if needs_label and example.label is None:
            raise UserError(
                f"{task.source.where(split, number)}: no label in this row: add it, or train on "
                "the teacher's with LABEL_SOURCE='teacher'"
            )
        yield number, example


def in_rows(groups: Sequence[list[Segment]], lengths: Mapping[str, int], pack: bool) -> Iterable[list[Segment]]:
    """The rows that groups of segments, of `tokenize`, are put into; without `pack` a row for each."""
    if not pack:
        return groups
    sizes = [(sum(len(s.inputs) for s in group), sum(len(s.targets) for s in group)) for group in groups]
    packed = pack_rows(np.array(sizes, np.int64).reshape(-1, 2), (lengths["inputs"], lengths["targets"]))
    return ([segment for item in row for segment in groups[item]] for row in packed)


def write_rows(path: pathlib.Path, rows: Iterable[Sequence[Segment]]) -> None:
    """Writes an ArrayRecord file of rows, and beside it how many label tokens each of them has.

    Raises:
      OSError: when the disk is full; the writer itself tells of it when closed, as a RuntimeError.
    """
    writer = ArrayRecordWriter(str(path), "group_size:1")
    label_tokens = []
    try:
        for row in rows:
            writer.write(encode_row(row))
            label_tokens.append(sum(len(s.targets) for s in row if s.task_id != TASK_IDS["rationale"]))
    finally:
        try:
            writer.close()
        except RuntimeError as error:
            full = os.strerror(errno.ENOSPC) in str(error)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error
    np.save(path.with_name("label_tokens.npy"), np.array(label_tokens, np.int32))


def prepare(
    mixture_or_task_name: str,
    split: str,
    *,
    vocabulary: str,
    task_feature_lengths: Mapping[str, int],
    pack: bool = True,
    label_source: str = "gold",
    rationale_rate: float | None = None,
    data_fraction: float = 1.0,
    num_examples: int | None = None,
    filters: Filters = Filters(),  # noqa: B008, frozen
    seed: int = 0,
    module: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    max_truncated: float = 0.05,
) -> Prepared:
    """Prepares a split, or finds it prepared.

    Args:
      mixture_or_task_name: such as `svamp_step_by_step`; see `registry.resolve`.
      split: train, validation or test.
      vocabulary: see `load_vocabulary`, or `train:SIZE`.
      task_feature_lengths: `{"inputs": L, "targets": T}`, the end token included; what is longer is
        cut.
      pack: several examples to a row of these lengths; else one.
      label_source: gold or teacher.
      rationale_rate: rationales for each label; default the task's.
      data_fraction: share of the split's examples to take.
      num_examples: or their number.
      filters: which of these to keep; the manifest has the numbers of those dropped.
      seed: of which ones these are.
      module: of the task, if it is not shipped.
      cache_dir: default `cache.cache_dir()`.
      max_truncated: warns when a larger share of the targets is cut.

    Raises:
      UserError: for unusable arguments or data, and for a full disk.
    """
    with registry.without_seqio():
        task, views = registry.resolve(mixture_or_task_name, label_source, module, rationale_rate)
    if split not in task.source.splits:
        raise UserError(f"task {task.name} has no split {split!r}: {', '.join(task.source.splits)}")
    lengths = {name: task_feature_lengths.get(name) for name in ("inputs", "targets")}
    if any(not isinstance(n, int) or n < 2 for n in lengths.values()):
        raise UserError(
            "TASK_FEATURE_LENGTHS: expected {'inputs': N, 'targets': N} with numbers from 2, got "
            f"{dict(task_feature_lengths)}"
        )
    if not 0.0 < data_fraction <= 1.0:
        raise UserError(f"DATA_FRACTION must lie in (0, 1], got {data_fraction}")
    vocabulary = resolve_vocabulary(vocabulary, task, cache_dir)
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
        "filters": dataclasses.asdict(filters),
        "soft": any(view.soft for view in views),
        "shared": share_inputs(views),
        "top_k": 0,
        "seed": seed,
        "data": task.source.fingerprint(split),
        "format": FORMAT,
    }
    key = hash_of(description)
    root = pathlib.Path(cache_dir or cache.cache_dir())
    folder = root / "prepared" / f"{mixture_or_task_name}-{split}-{key}"
    if not folder.exists():
        chosen = share(task.source, split, data_fraction, num_examples, seed)
        dropped = collections.Counter()
        examples = _checked(keep(chosen, filters, task.agrees, dropped), task, split, views)
        counts = new_counts(views)

        def rows() -> Iterator[Sequence[Segment]]:
            while window := list(itertools.islice(examples, WINDOW)):
                groups = tokenize(window, views, tokenizer, lengths, counts, task.classes)
                for row in in_rows(groups, lengths, pack):
                    counts.rows += 1
                    yield row

        with cache.new_folder(folder) as temporary:
            write_rows(temporary / "rows.array_record", rows())
            _check_targets(task, split, views, counts)
            text = json.dumps(_manifest(description, counts, dropped), indent=2)
            (temporary / "manifest.json").write_text(text + "\n")
    manifest = json.loads((folder / "manifest.json").read_text())
    _warn(manifest, mixture_or_task_name, max_truncated)
    return Prepared(folder, key, vocabulary, manifest)


def _check_targets(task: DistillationTask, split: str, views: Sequence[View], counts: Counts) -> None:
    """Training needs targets for every view; to be evaluated on, a split may have labels alone."""
    for view in views:
        if not counts.views[view.name] and (split == "train" or not counts.rows):
            raise UserError(f"{task.name} {split}: none of the {counts.examples} examples has a {view.target}")


def _manifest(description: dict[str, Any], counts: Counts, dropped: Mapping[str, int]) -> dict[str, Any]:
    lengths = description["task_feature_lengths"]
    return (
        description
        | dataclasses.asdict(counts)
        | {
            "dropped": dict(dropped),
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
