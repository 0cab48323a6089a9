"""Figures of a task's data: rows, how often the teacher is right, token lengths, packing fill."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from distill_jax.data.prepare import WINDOW, in_rows, resolve_vocabulary
from distill_jax.data.schema import Example
from distill_jax.data.sources import HeldOutSource
from distill_jax.data.task import DistillationTask
from distill_jax.data.tokenization import new_counts, tokenize
from distill_jax.data.vocabularies import Vocabulary, load_vocabulary
from distill_jax.errors import UserError

FIELDS = ("input", "label", "rationale")


def task_statistics(
    task: DistillationTask,
    splits: Sequence[str] | None = None,
    vocabulary: str = "train:2000",
    task_feature_lengths: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Figures of a task, for `distill-jax data stats`.

    Of all `splits` by default; a validation part that is held out of train counts to train. The default
    `vocabulary` is trained on the task's own text; the default lengths of a packed row leave neither idle.

    Returns:
      `task`, `vocabulary`, `task_feature_lengths`, and under `splits` by name: `rows`;
      `validation_rows`, those of them that are held out (train only); `teacher_accuracy` by the
      task's main metric over the rows with a reference label (None without one), where a row the teacher
      has no label for is wrong; `parsed` and `unparsed`, the rows with and without a teacher's label or
      rationale;
      `token_lengths` without the end token (`mean`, `median`, `p99`, `max` of each field that is
      there); `packing_fill`, the share of an encoder and decoder row that step by step fills.

    Raises:
      UserError: for an unknown split, and for unusable data.
    """
    lengths = dict(task_feature_lengths or {"inputs": 512, "targets": 320})
    tokenizer = load_vocabulary(resolve_vocabulary(vocabulary, task))
    source = task.source
    holds_out = isinstance(source, HeldOutSource)
    if splits is None:
        splits = source.source.splits if holds_out else source.splits
    figures = {}
    for split in splits:
        if split not in source.splits:
            raise UserError(f"task {task.name} has no split {split!r}: {', '.join(source.splits)}")
        whole_file = holds_out and split == "train"
        examples = source.source.examples(split) if whole_file else source.examples(split)
        figures[split] = _split_statistics(task, examples, tokenizer, lengths)
        if whole_file:
            figures[split]["validation_rows"] = source.size("validation")
    return {"task": task.name, "vocabulary": vocabulary, "task_feature_lengths": lengths, "splits": figures}


def _split_statistics(
    task: DistillationTask, examples: Iterator[Example], vocabulary: Vocabulary, lengths: Mapping[str, int]
) -> dict[str, Any]:
    views = task.views("step_by_step")
    counts = new_counts(views)
    unparsed = packed_rows = references = teachers = right = 0
    token_lengths: dict[str, list[int]] = {field: [] for field in FIELDS}
    numbered = enumerate(examples)
    while window := list(itertools.islice(numbered, WINDOW)):
        labelled = [example for _, example in window if example.label is not None]
        labels = [example.teacher_label for example in labelled]
        if labels:
            right += task.main_score(labelled, labels) * len(labels)
        references += len(labels)
        teachers += sum(label is not None for label in labels)
        unparsed += sum(e.teacher_label is None and e.rationale is None for _, e in window)
        for field, seen in token_lengths.items():
            texts = (getattr(example, field) for _, example in window)
            seen.extend(map(len, vocabulary.encode_batch([text for text in texts if text is not None])))
        groups = tokenize(window, views, vocabulary, lengths, counts)
        packed_rows += sum(1 for _ in in_rows(groups, lengths, pack=True))
    if not counts.examples:
        raise UserError(f"task {task.name}: no examples to count")
    return {
        "rows": counts.examples,
        "teacher_accuracy": right / references if teachers and not math.isnan(right) else None,
        "parsed": counts.examples - unparsed,
        "unparsed": unparsed,
        "token_lengths": {field: _summary(seen) for field, seen in token_lengths.items() if seen},
        "packing_fill": {
            "encoder": counts.encoder_tokens / (max(packed_rows, 1) * lengths["inputs"]),
            "decoder": counts.decoder_tokens / (max(packed_rows, 1) * lengths["targets"]),
        },
    }


def _summary(seen: Sequence[int]) -> dict[str, float]:
    return {
        "mean": float(np.mean(seen)),
        "median": float(np.median(seen)),
        "p99": int(np.percentile(seen, 99, method="higher")),
        "max": int(np.max(seen)),
    }
