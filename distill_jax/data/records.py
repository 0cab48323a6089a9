"""A packed row as bytes on disk, and as the padded features of a batch."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill_jax.config.json_types import require_known
from distill_jax.errors import UserError, words_of


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """One view of one example, tokenized, the end token included."""

    inputs: Sequence[int]  # encoder tokens; none of a segment that shares those of the one before it
    targets: Sequence[int]  # decoder tokens
    task_id: int  # of `views.TASK_IDS`
    example: int  # its number in the split
    choices: Sequence[int] = ()  # of a soft label: the lengths of the labels one after the other in `targets`
    probs: Sequence[float] = ()  # their probabilities
    reference: int = -1  # which of them is right; -1 where that is not known
    start: int = 0  # the decoder's first input token
    top_ids: np.ndarray | None = None  # [targets, k], the likeliest next tokens under a white-box teacher
    top_log_probs: np.ndarray | None = None  # [targets, k], their log-probabilities


HEADER = 8  # counts of a segment
# The entries of a manifest that are read, with their types.
MANIFEST: Mapping[str, Any] = {
    **dict.fromkeys(("task", "split", "vocabulary", "data"), str),
    **dict.fromkeys(("examples", "rows", "truncated_inputs", "truncated_targets", "top_k"), int),
    **dict.fromkeys(("unknown_tokens", "labels_of_no_class", "without_label_probs"), int),
    **dict.fromkeys(("null_rationales", "null_labels"), int),
    **dict.fromkeys(("soft", "shared"), bool),
    **dict.fromkeys(("encoder_fill", "decoder_fill", "data_fraction"), float),
    **dict.fromkeys(("task_feature_lengths", "views", "with_target", "without_target"), dict[str, int]),
    **dict.fromkeys(("other_labels", "dropped"), dict[str, int]),
    "equal_labels": list[list[str]],
}
ENCODER_FEATURES = ("encoder_input_tokens", "encoder_segment_ids", "encoder_positions")
DECODER_FEATURES = tuple(
    f"decoder_{name}" for name in ("target_tokens", "input_tokens", "segment_ids", "positions", "task_ids")
)


def encode_row(segments: Sequence[Segment]) -> bytes:
    """Serialises the segments of a row: int32 counts, then all tokens; floats as their bits."""
    header, body = [len(segments)], []
    for segment in segments:
        header += [len(segment.inputs), len(segment.targets), segment.task_id, segment.example]
        top_k = 0 if segment.top_ids is None else segment.top_ids.shape[1]
        header += [len(segment.choices), segment.reference, segment.start, top_k]
        for part in (segment.inputs, segment.targets, segment.choices):
            body.extend(part)
        body.extend(np.asarray(segment.probs, "<f4").view("<i4"))
        if top_k:
            body.extend(segment.top_ids.reshape(-1))
            body.extend(np.asarray(segment.top_log_probs, "<f4").reshape(-1).view("<i4"))
    return np.asarray(header + body, "<i4").tobytes()


def decode_row(record: bytes) -> list[Segment]:
    """The inverse of `encode_row`; tokens come as int32 arrays."""
    numbers = np.frombuffer(record, "<i4")
    count = int(numbers[0])
    segments, position = [], 1 + HEADER * count
    for header in numbers[1:position].reshape(count, HEADER).tolist():
        inputs, targets, task_id, example, choices, reference, start, top_k = header
        sizes = np.array([inputs, targets, choices, choices, targets * top_k, targets * top_k])
        parts = np.split(numbers[position:], sizes.cumsum())
        probs = parts[3].view("<f4")
        segment = Segment(parts[0], parts[1], task_id, example, parts[2], probs, reference, start)
        if top_k:
            ids, log_probs = (part.reshape(targets, top_k) for part in parts[4:6])
            segment = dataclasses.replace(segment, top_ids=ids, top_log_probs=log_probs.view("<f4"))
        segments.append(segment)
        position += int(sizes.sum())
    return segments


def damaged(path: pathlib.Path, error: Exception) -> UserError:
    """The error, in words, of a file of prepared records that cannot be read."""
    return UserError(
        f"{path}: damaged ({words_of(error):.200}): delete the folder {path.parent}: it is prepared anew"
    )


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """What `prepare` noted of a folder of records; raises UserError when it cannot be read."""
    path = folder / "manifest.json"
    try:
        values = json.loads(path.read_text())
        require_known(values, MANIFEST)
        if {*values["task_feature_lengths"]} != {"inputs", "targets"}:
            raise ValueError("task_feature_lengths: expected inputs and targets")
    except FileNotFoundError:
        raise UserError(f"{folder}: no prepared records in there: {path.name} is missing") from None
    except (OSError, ValueError, RecursionError, UserError) as error:
        raise damaged(path, error) from None
    return values


def open_rows(folder: pathlib.Path) -> tuple[Any, np.ndarray]:
    """The encoded rows of a folder, by number, and how many label tokens each of them has, int32 [rows].

    Raises UserError when they cannot be read, or are not of one another.
    """
    import grain  # here, for the benchmark of accelerators packs rows where there is none

    path = folder / "label_tokens.npy"
    try:
        label_tokens = np.load(path)
        if label_tokens.ndim != 1 or label_tokens.dtype.kind != "i":
            raise ValueError(f"expected whole numbers, got {label_tokens.dtype} {list(label_tokens.shape)}")
        path = folder / "rows.array_record"
        records = grain.sources.ArrayRecordDataSource([str(path)])
    except Exception as error:  # NumPy and ArrayRecord raise many kinds
        raise damaged(path, error) from None
    if len(records) != len(label_tokens):
        raise damaged(path, ValueError(f"{len(records)} rows, expected {len(label_tokens)}"))
    return records, label_tokens


def to_features(
    segments: Sequence[Segment],
    lengths: Mapping[str, int],
    soft: bool = False,
    top_k: int = 0,
    shared: bool = False,
) -> dict[str, np.ndarray]:
    """Lays the segments of a row out side by side, with T5X's feature names; `lengths` are L inputs, T targets.

    Returns:
      Arrays [L] or [T], 0 where nothing is: `encoder_input_tokens`, `encoder_segment_ids` (from 1),
      `encoder_positions` (from 0 in each segment), `decoder_target_tokens`, `decoder_input_tokens`
      (the targets shifted right within each segment, its `start` first), `decoder_segment_ids`,
      `decoder_positions`, `decoder_task_ids`, all int32; `decoder_loss_weights` float32.

      With `shared`, where segments share their inputs, `decoder_cross_segment_ids` (int32): the encoder segment
      that a decoder token attends to.

      With `soft`, each label a row can have is a decoder segment of its own, all of them attending
      to the one encoder segment in `decoder_cross_segment_ids`; `decoder_choice_probs`
      (float32) has the label's probability at each of its tokens, and only the reference label's tokens
      have a loss weight.

      With `top_k`, the teacher's likeliest next tokens (see `training.stored_logits`), [T, top_k]:
      `decoder_teacher_ids` (int32) and `decoder_teacher_log_probs` (float32).
    """
    size = lengths["targets"]
    encoder = {name: np.zeros(lengths["inputs"], np.int32) for name in ENCODER_FEATURES}
    decoder = {name: np.zeros(size, np.int32) for name in DECODER_FEATURES}
    weights, probs = np.zeros(size, np.float32), np.zeros(size, np.float32)
    cross = np.zeros(size, np.int32)
    teacher_ids, teacher_log_probs = np.zeros((size, top_k), np.int32), np.zeros((size, top_k), np.float32)
    start, target_start, part, number = 0, 0, 0, 0
    for segment in segments:
        number += len(segment.inputs) > 0
        end = start + len(segment.inputs)
        encoder["encoder_input_tokens"][start:end] = segment.inputs
        encoder["encoder_segment_ids"][start:end] = number
        encoder["encoder_positions"][start:end] = np.arange(end - start)
        first = target_start
        for place, length in enumerate(segment.choices if soft else [len(segment.targets)]):
            part += 1
            target_end = target_start + length
            tokens = segment.targets[target_start - first : target_end - first]
            own = slice(target_start, target_end)
            decoder["decoder_target_tokens"][own] = tokens
            decoder["decoder_input_tokens"][target_start] = segment.start
            decoder["decoder_input_tokens"][target_start + 1 : target_end] = tokens[:-1]
            decoder["decoder_segment_ids"][own] = part
            decoder["decoder_positions"][own] = np.arange(length)
            decoder["decoder_task_ids"][own] = segment.task_id
            weights[own] = not soft or place == segment.reference
            cross[own] = number
            if soft:
                probs[own] = segment.probs[place]
            target_start = target_end
        if top_k:
            teacher_ids[first:target_start] = segment.top_ids
            teacher_log_probs[first:target_start] = segment.top_log_probs
        start = end
    features = encoder | decoder | {"decoder_loss_weights": weights}
    if soft or shared:
        features["decoder_cross_segment_ids"] = cross
    if soft:
        features["decoder_choice_probs"] = probs
    if top_k:
        features |= {"decoder_teacher_ids": teacher_ids, "decoder_teacher_log_probs": teacher_log_probs}
    return features
