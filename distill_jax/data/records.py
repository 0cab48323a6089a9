"""A packed row as bytes on disk, and as the padded features of a batch."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """One view of one example, tokenized, the end token included.

    Attributes:
      inputs: encoder tokens.
      targets: decoder tokens.
      task_id: of `views.TASK_IDS`.
      example: number of the example in its split.
    """

    inputs: Sequence[int]
    targets: Sequence[int]
    task_id: int
    example: int


def encode_row(segments: Sequence[Segment]) -> bytes:
    """Serialises the segments of a row: int32 counts, then all tokens."""
    header = [len(segments)]
    tokens: list[int] = []
    for segment in segments:
        header += [len(segment.inputs), len(segment.targets), segment.task_id, segment.example]
        tokens += segment.inputs
        tokens += segment.targets
    return np.asarray(header + tokens, "<i4").tobytes()


def decode_row(record: bytes) -> list[Segment]:
    """The inverse of `encode_row`; tokens come as int32 arrays."""
    numbers = np.frombuffer(record, "<i4")
    count = int(numbers[0])
    segments, position = [], 1 + 4 * count
    for header in numbers[1:position].reshape(count, 4).tolist():
        inputs, targets, task_id, example = header
        middle, end = position + inputs, position + inputs + targets
        segments.append(Segment(numbers[position:middle], numbers[middle:end], task_id, example))
        position = end
    return segments


def to_features(segments: Sequence[Segment], lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Lays the segments of a row out side by side, with T5X's feature names.

    Args:
      segments: of one row.
      lengths: `{"inputs": L, "targets": T}`.

    Returns:
      Arrays [L] or [T], 0 where nothing is: `encoder_input_tokens`, `encoder_segment_ids` (from 1),
      `encoder_positions` (from 0 in each segment), `decoder_target_tokens`, `decoder_input_tokens`
      (the targets shifted right within each segment, 0 first), `decoder_segment_ids`,
      `decoder_positions`, `decoder_task_ids`, all int32; `decoder_loss_weights` float32.
    """
    inputs_length, targets_length = lengths["inputs"], lengths["targets"]
    encoder = {
        name: np.zeros(inputs_length, np.int32)
        for name in ("encoder_input_tokens", "encoder_segment_ids", "encoder_positions")
    }
    decoder = {
        name: np.zeros(targets_length, np.int32)
        for name in (
            "decoder_target_tokens",
            "decoder_input_tokens",
            "decoder_segment_ids",
            "decoder_positions",
            "decoder_task_ids",
        )
    }
    weights = np.zeros(targets_length, np.float32)
    start, target_start = 0, 0
    for number, segment in enumerate(segments, 1):
        end = start + len(segment.inputs)
        encoder["encoder_input_tokens"][start:end] = segment.inputs
        encoder["encoder_segment_ids"][start:end] = number
        encoder["encoder_positions"][start:end] = np.arange(end - start)
        target_end = target_start + len(segment.targets)
        decoder["decoder_target_tokens"][target_start:target_end] = segment.targets
        decoder["decoder_input_tokens"][target_start + 1 : target_end] = segment.targets[:-1]
        decoder["decoder_segment_ids"][target_start:target_end] = number
        decoder["decoder_positions"][target_start:target_end] = np.arange(target_end - target_start)
        decoder["decoder_task_ids"][target_start:target_end] = segment.task_id
        weights[target_start:target_end] = 1.0
        start, target_start = end, target_end
    return encoder | decoder | {"decoder_loss_weights": weights}
