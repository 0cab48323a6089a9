"""Figures of a task's data: rows, how often the teacher is right, token lengths, packing fill."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from distill_jax.data import registry
from distill_jax.data.packing import pack
from distill_jax.data.prepare import WINDOW, resolve_vocabulary
from distill_jax.data.registry import DistillationTask
from distill_jax.data.schema import Example
from distill_jax.data.sources import ReferenceSource
from distill_jax.data.tokenization import new_counts, tokenize
from distill_jax.data.vocabularies import Vocabulary, load_vocabulary
from distill_jax.errors import UserError

FIELDS = ("input", "label", "rationale")


def task_statistics(
    name: str,
    splits: Sequence[str] | None = None,
    vocabulary: str = "train:2000",
    task_feature_lengths: Mapping[str, int] | None = None,
    module: str | None = None,
) -> dict[str, Any]:
    """Figures of a task, for `distill-jax data stats`.

    Args:
      name: of the task, such as `svamp`.
      splits: default all; a validation part that is held out of train counts to train.
      vocabulary: see `prepare`; the default is trained on the task's own text.
      task_feature_lengths: of a packed row; default 512 and 320, which leave neither length idle.
      module: of the task, if it is not shipped.

    Returns:
      `task`, `vocabulary`, `task_feature_lengths`, and under `splits` by name: `rows`;
      `validation_rows`, those of them that are held out (train only); `teacher_accuracy` by the
      task's own metric over the rows with a gold label (None without one), where a row the teacher
      has no label for is wrong; `unparsed`, the rows without teacher label and rationale;
      `token_lengths` without the end token (`mean`, `median`, `p99`, `max` of each field that is
      there); `packing_fill`, the share of an encoder and decoder row that step by step fills.

    Raises:
      UserError: for an unknown task or split, and for unusable data.
    """
    lengths = dict(task_feature_lengths or {"inputs": 512, "targets": 320})
    with registry.without_seqio():
        task = registry.get_task(name, module)
    tokenizer = load_vocabulary(resolve_vocabulary(vocabulary, task))
    source = task.source
    holds_out = isinstance(source, ReferenceSource) and not source.has_validation
    if splits is None:
        splits = [s for s in source.splits if not (holds_out and s == "validation")]
    figures = {}
    for split in splits:
        if split not in source.splits:
            raise UserError(f"task {name} has no split {split!r}: {', '.join(source.splits)}")
        whole_file = holds_out and split == "train"
        examples = source.file_examples(split) if whole_file else source.examples(split)
        figures[split] = _split_statistics(task, examples, tokenizer, lengths)
        if whole_file:
            figures[split]["validation_rows"] = sum(1 for _ in source.examples("validation"))
    return {
        "task": name,
        "vocabulary": vocabulary,
        "task_feature_lengths": lengths,
        "splits": figures,
    }


def _split_statistics(
    task: DistillationTask,
    examples: Iterator[Example],
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
) -> dict[str, Any]:
    views = task.views("step_by_step")
    counts = new_counts(views)
    unparsed, packed_rows = 0, 0
    golds, teachers = [], []
    token_lengths: dict[str, list[int]] = {field: [] for field in FIELDS}
    numbered = enumerate(examples)
    while window := list(itertools.islice(numbered, WINDOW)):
        for _, example in window:
            unparsed += example.teacher_label is None and example.rationale is None
            if example.label is not None:
                golds.append(example.label)
                teachers.append(example.teacher_label)
        for field, seen in token_lengths.items():
            texts = [getattr(example, field) for _, example in window]
            ids = vocabulary.encode_batch([text for text in texts if text is not None])
            seen.extend(map(len, ids))
        segments = tokenize(window, views, vocabulary, lengths, counts)
        sizes = np.array([(len(s.inputs), len(s.targets)) for s in segments]).reshape(-1, 2)
        packed_rows += len(pack(sizes, (lengths["inputs"], lengths["targets"])))
    if not counts.examples:
        raise UserError(f"task {task.name}: no examples to count")
    return {
        "rows": counts.examples,
        "teacher_accuracy": _teacher_accuracy(task, golds, teachers),
        "unparsed": unparsed,
        "token_lengths": {field: _summary(seen) for field, seen in token_lengths.items() if seen},
        "packing_fill": {
            "encoder": counts.encoder_tokens / (max(packed_rows, 1) * lengths["inputs"]),
            "decoder": counts.decoder_tokens / (max(packed_rows, 1) * lengths["targets"]),
        },
    }


def _teacher_accuracy(
    task: DistillationTask, golds: Sequence[str], teachers: Sequence[str | None]
) -> float | None:
    if not golds or all(label is None for label in teachers):
        return None
    if task.label_postprocess_fn is not None:
        postprocess = task.label_postprocess_fn
        golds = [postprocess(label, example=None, is_target=True) for label in golds]
        teachers = [
            None if label is None else postprocess(label, example=None, is_target=False) for label in teachers
        ]
    scores: dict[str, float] = {}
    for metric in task.label_metric_fns:
        scores |= metric(golds, teachers)
    accuracy = scores.get("accuracy")
    return None if accuracy is None else float(accuracy)


def _summary(seen: Sequence[int]) -> dict[str, float]:
    return {
        "mean": float(np.mean(seen)),
        "median": float(np.median(seen)),
        "p99": int(np.percentile(seen, 99, method="higher")),
        "max": int(np.max(seen)),
    }
