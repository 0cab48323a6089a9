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

from distill_jax.config import PrepareConfig
from distill_jax.data import cache, documents
from distill_jax.data.documents import SpanCorruption
from distill_jax.data.packing import pack as pack_rows
from distill_jax.data.records import Segment, encode_row, read_manifest
from distill_jax.data.schema import Example
from distill_jax.data.selection import OPTIONS, Filters, keep, share
from distill_jax.data.sources.base import code_of
from distill_jax.data.task import DistillationTask
from distill_jax.data.tokenization import Counts, new_counts, tokenize
from distill_jax.data.views import TASK_IDS, View, share_inputs, soften
from distill_jax.data.vocabularies import load_vocabulary, train_vocabulary
from distill_jax.data.vocabulary_base import EXTRA_IDS
from distill_jax.errors import UserError

FORMAT = 12  # raise it when the records would differ for the same arguments
WINDOW = 8192  # examples that are tokenized and packed together, and held in memory
_WITHOUT_RATIONALES = "name their column (--rationale), or train on labels alone (--method standard)"
LENGTHS = PrepareConfig.named("task_feature_lengths")
log = logging.getLogger("distill_jax")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared split."""

    path: pathlib.Path  # the folder, for `loader.Loader`
    key: str  # hash of what the records depend on
    vocabulary: str  # spec for `load_vocabulary`
    manifest: dict[str, Any]  # what `manifest.json` holds: counts of rows, examples and tokens, and the fill


def resolve_vocabulary(
    spec: str,
    task: DistillationTask,
    cache_dir: str | os.PathLike | None = None,
    sentinels: int = 0,
    verify: bool = True,
) -> str:
    """`spec` itself, or for `train:SIZE` the folder of a vocabulary made of the task's train text.

    All fields of the examples count, whatever the method, so that methods share one vocabulary. It has 100
    sentinels, as T5's, or `sentinels` where these are more. With `verify` a damaged one is made anew.

    Raises:
      UserError: for a size that is no number, or that the text is too small or too rich for.
    """
    if not spec.startswith("train:"):
        return spec
    size = spec.removeprefix("train:")
    if not size.isdecimal() or int(size) < 300:
        raise UserError(f"vocabulary {spec!r}: expected train:SIZE with a size of 300 or more")
    parts = [task.name, task.source.fingerprint("train"), task.label_prefix, task.rationale_prefix]
    extra_ids = max(EXTRA_IDS, sentinels)
    key = hash_of([*parts, size, FORMAT, *[extra_ids] * (extra_ids > EXTRA_IDS)])
    root = pathlib.Path(cache_dir or cache.cache_dir())
    folder = root / "vocabularies" / f"{task.name}-{size}-{key}"
    return str(
        cache.made(folder, lambda to: train_vocabulary(texts(task), int(size), extra_ids).save(to), verify)
    )


def hash_of(value: Any) -> str:
    """Short hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def texts(task: DistillationTask) -> Iterator[str]:
    """All text of a task's train split, whatever the method: what a vocabulary is trained on."""
    for example in task.source.examples("train"):
        for prefix in dict.fromkeys((task.label_prefix, task.rationale_prefix)):
            yield prefix + example.input
        for text in (example.label, example.teacher_label, example.rationale):
            if text is not None:
                yield text


def checked(
    examples: Iterable[tuple[int, Example]], task: DistillationTask, split: str, views: Sequence[View]
) -> Iterator[tuple[int, Example]]:
    """Passes the examples on. A training row needs its reference label; what a teacher left out is no error."""
    targets = {field for view in views if not view.soft for field in (view.target, view.answer)}
    needs_label = split == "train" and "label" in targets
    for number, example in examples:
        if any(view.soft for view in views):
            try:
                soften(example, task.classes)
            except ValueError as error:
                raise UserError(f"{task.source.where(split, number)}: {error}") from None
        if needs_label and example.label is None:
            raise UserError(
                f"{task.source.where(split, number)}: no label in this row: add it, or train on "
                f"the teacher's: {PrepareConfig.named('label_source')} teacher"
            )
        yield number, example


def in_rows(
    groups: Sequence[list[Segment]],
    lengths: Mapping[str, int],
    pack: bool,
    corruption: SpanCorruption | None = None,
) -> Iterable[list[Segment]]:
    """The rows that groups of segments, of `tokenize`, are put into; without `pack` a row for each.

    With `corruption` the groups are windows, which have room for what they are turned into.
    """
    if not pack:
        return groups
    if corruption is None:
        sizes = [(sum(len(s.inputs) for s in group), sum(len(s.targets) for s in group)) for group in groups]
    else:
        sizes = [corruption.lengths(len(window.inputs)) for (window,) in groups]
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
    task: DistillationTask,
    views: Sequence[View],
    split: str,
    *,
    vocabulary: str,
    task_feature_lengths: Mapping[str, int],
    pack: bool = True,
    data_fraction: float = 1.0,
    num_examples: int | None = None,
    filters: Filters = Filters(),  # noqa: B008, frozen
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    max_truncated: float = 0.05,
    verify: bool = True,
) -> Prepared:
    """Prepares a split, or finds it prepared.

    A split to train on needs a target for every view. Another split may lack the teacher's fields: what they
    are needed for is left out, to the point of no rows at all.

    Args:
      vocabulary: of `load_vocabulary`, or `train:SIZE`.
      task_feature_lengths: `{"inputs": L, "targets": T}`, the end token included; what is longer is cut.
      pack: several examples to a row of these lengths; else one.
      data_fraction, num_examples, seed: see `selection.share`.
      filters: which of these to keep; the manifest has the numbers of those dropped.
      max_truncated: warns when a larger share of the inputs or the targets is cut.
      verify: compares what is found prepared with its checksums; a damaged set is prepared anew.

    Raises:
      UserError: for unusable arguments or data, and for a full disk.
    """
    if split not in task.source.splits:
        raise UserError(f"task {task.name} has no split {split!r}: {', '.join(task.source.splits)}")
    lengths = {name: task_feature_lengths.get(name) for name in ("inputs", "targets")}
    if any(not isinstance(n, int) or n < 2 for n in lengths.values()):
        raise UserError(
            f"{LENGTHS}: expected inputs and targets with numbers from 2, got {dict(task_feature_lengths)}"
        )
    if not 0.0 < data_fraction <= 1.0:
        raise UserError(f"{PrepareConfig.named('data_fraction')} must lie in (0, 1], got {data_fraction}")
    vocabulary = resolve_vocabulary(vocabulary, task, cache_dir, documents.spans_of(views, lengths), verify)
    tokenizer = load_vocabulary(vocabulary)
    pretrains = [view for view in views if view.name == "text"]
    corruption = documents.make_corruption(pretrains[0], tokenizer, lengths) if pretrains else None
    soft = any(view.soft for view in views)
    description = {
        "task": task.name,
        "split": split,
        "views": [_described(view) for view in views],
        "vocabulary": tokenizer.fingerprint,
        "task_feature_lengths": lengths,
        "pack": pack,
        "data_fraction": data_fraction,
        "num_examples": num_examples,
        "filters": dataclasses.asdict(filters),
        "scoring": _scoring(task) if filters.agreeing else None,
        "classes": task.classes,
        "soft": soft,
        "shared": share_inputs(views),
        "top_k": 0,
        "seed": seed,
        "data": task.source.fingerprint(split),
        "format": FORMAT,
    }
    if corruption is not None:
        description["corruption"] = dataclasses.asdict(corruption)
    key = hash_of(description)
    root = pathlib.Path(cache_dir or cache.cache_dir())
    kind = "soft_labels" if soft else "_".join(view.name for view in views)
    folder = root / "prepared" / f"{task.name}_{kind}-{split}-{key}"

    def make(temporary: pathlib.Path) -> None:
        chosen = share(task.source, split, data_fraction, num_examples, seed)
        dropped = collections.Counter()
        examples = checked(keep(chosen, filters, task.agrees, dropped), task, split, views)
        counts, labels = new_counts(views), {}
        random = np.random.default_rng(seed)

        def groups_of(window: Sequence[tuple[int, Example]]) -> Sequence[list[Segment]]:
            if pretrains:
                return documents.windows(window, *pretrains, tokenizer, lengths, corruption, counts, random)
            return tokenize(window, views, tokenizer, lengths, counts, task.classes, labels)

        def rows() -> Iterator[Sequence[Segment]]:
            while window := list(itertools.islice(examples, WINDOW)):
                for row in in_rows(groups_of(window), lengths, pack, corruption):
                    counts.rows += 1
                    yield row

        write_rows(temporary / "rows.array_record", rows())
        if split == "train":
            _check_targets(task, views, counts, dropped)
        text = json.dumps(_manifest(description, counts, dropped), indent=2)
        (temporary / "manifest.json").write_text(text + "\n")

    cache.made(folder, make, verify)
    manifest = read_manifest(folder)
    _warn(manifest, max_truncated)
    return Prepared(folder, key, vocabulary, manifest)


def _described(view: View) -> dict[str, Any]:
    """The fields of a view; of those that only one that pretrains has, those that are given."""
    given = dataclasses.asdict(view).items()
    return {name: value for name, value in given if name not in ("noise", "window") or value is not None}


def _scoring(task: DistillationTask) -> list[str]:
    """The code of the functions by which a teacher's label is right."""
    functions = [*task.label_metric_fns, *filter(None, [task.label_postprocess_fn])]
    return [hash_of(code_of(function)) for function in functions] + [str(task.main_metric)]


def _check_targets(
    task: DistillationTask, views: Sequence[View], counts: Counts, dropped: Mapping[str, int]
) -> None:
    filtered = ", ".join(
        f"{PrepareConfig.named(OPTIONS[reason])} {count} ({reason})" for reason, count in dropped.items()
    )
    if not counts.examples and dropped:
        raise UserError(f"{task.name} train: the filters dropped every example: {filtered}; loosen them")
    for view in views:
        if not counts.views[view.name]:
            after = f"; the filters dropped {filtered}" if filtered else ""
            needed = view.target if not view.soft else "label_probs or teacher_label among its classes"
            advice = f": {_WITHOUT_RATIONALES}" if view.target == "rationale" and not after else ""
            none = f"none of the {counts.examples} examples has a {needed}{after}"
            raise UserError(f"{task.name} train: {none}{advice}")


def require_label_probs(manifest: Mapping[str, Any]) -> None:
    """Raises UserError where soft labels are trained on, and no example has the teacher's `label_probs`."""
    if manifest["soft"] and manifest["without_label_probs"] == sum(manifest["views"].values()):
        raise UserError(
            f"{manifest['task']} {manifest['split']}: none of the {manifest['examples']} examples has "
            "label_probs, which soft labels are made of: have the teacher give them (distill-jax annotate "
            "--logprobs 5, or --samples 5 for shares of votes), or train with --method task_distillation on "
            "its labels"
        )


def _manifest(description: dict[str, Any], counts: Counts, dropped: Mapping[str, int]) -> dict[str, Any]:
    lengths, rows = description["task_feature_lengths"], max(counts.rows, 1)
    fill = {
        "encoder_fill": counts.encoder_tokens / (rows * lengths["inputs"]),
        "decoder_fill": counts.decoder_tokens / (rows * lengths["targets"]),
    }
    commonest = collections.Counter(counts.other_labels).most_common(3)
    kept = {"other_labels": dict(commonest), "dropped": dict(dropped)}
    return description | dataclasses.asdict(counts) | kept | fill


def _counted(manifest: Mapping[str, Any]) -> str:
    """The commonest labels of no class, with how often each stands there."""
    texts = [f"{text[:40]!r} {count} times" for text, count in manifest["other_labels"].items()]
    others = manifest["labels_of_no_class"] - sum(manifest["other_labels"].values())
    return ", ".join([*texts, *([f"others {others} times"] if others else [])])


def _warn(manifest: Mapping[str, Any], max_truncated: float) -> None:
    """Logs a line for each thing in the records that a student cannot learn from."""
    segments = sum(manifest["views"].values())
    problems = [
        f"{cut} of {segments} {side} are longer than {length} tokens and were cut: raise {LENGTHS}"
        for side, length in manifest["task_feature_lengths"].items()
        if (cut := manifest[f"truncated_{side}"]) > max_truncated * segments
    ]
    counted = {
        "unknown_tokens": "tokens are unknown to the vocabulary",
        "labels_of_no_class": f"labels are none of the classes or choices: {_counted(manifest)}",
        "without_label_probs": "examples have no label_probs: the teacher counts as certain of their label",
        "null_rationales": "rationales are `nan`, `None` or the like: remove them",
        "null_labels": "labels are `nan`, `None` or the like: remove them, or name the class in --classes",
    }
    problems += [f"{manifest[name]} {problem}" for name, problem in counted.items() if manifest[name]]
    if manifest["split"] == "train":
        problems += [
            f"{count} of {manifest['examples']} examples have no target of the view {name!r}: left out of it"
            for name, count in manifest["without_target"].items()
            if count
        ]
    problems += [
        f"the labels {one!r} and {other!r} have the same tokens: no student tells them apart"
        for one, other in manifest["equal_labels"]
    ]
    for problem in problems:
        log.warning("warning: %s %s: %s", manifest["task"], manifest["split"], problem)
