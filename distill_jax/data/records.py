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
      choices: of a soft label, the lengths of the targets it is made of, one after the other; their
        sum is the length of `targets`.
      probs: their probabilities.
      gold: which of them is right; -1 where that is not known.
    """

    inputs: Sequence[int]
    targets: Sequence[int]
    task_id: int
    example: int
    choices: Sequence[int] = ()
    probs: Sequence[float] = ()
    gold: int = -1


def encode_row(segments: Sequence[Segment]) -> bytes:
    """Serialises the segments of a row: int32 counts, then all tokens; probabilities as their bits."""
    header = [len(segments)]
    body: list[int] = []
    for segment in segments:
        header += [len(segment.inputs), len(segment.targets), segment.task_id, segment.example]
        header += [len(segment.choices), segment.gold]
        body += segment.inputs
        body += segment.targets
        body += segment.choices
        body += np.asarray(segment.probs, "<f4").view("<i4").tolist()
    return np.asarray(header + body, "<i4").tobytes()


def decode_row(record: bytes) -> list[Segment]:
    """The inverse of `encode_row`; tokens come as int32 arrays."""
    numbers = np.frombuffer(record, "<i4")
    count = int(numbers[0])
    segments, position = [], 1 + 6 * count
    for header in numbers[1:position].reshape(count, 6).tolist():
        inputs, targets, task_id, example, choices, gold = header
        parts = np.split(numbers[position:], np.cumsum([inputs, targets, choices, choices]))
        probs = parts[3].view("<f4")
        segments.append(Segment(parts[0], parts[1], task_id, example, parts[2], probs, gold))
        position += inputs + targets + 2 * choices
    return segments


def to_features(
    segments: Sequence[Segment], lengths: Mapping[str, int], soft: bool = False
) -> dict[str, np.ndarray]:
    """Lays the segments of a row out side by side, with T5X's feature names.

    Args:
      segments: of one row.
      lengths: `{"inputs": L, "targets": T}`.
      soft: adds the features of soft labels.

    Returns:
      Arrays [L] or [T], 0 where nothing is: `encoder_input_tokens`, `encoder_segment_ids` (from 1),
      `encoder_positions` (from 0 in each segment), `decoder_target_tokens`, `decoder_input_tokens`
      (the targets shifted right within each segment, 0 first), `decoder_segment_ids`,
      `decoder_positions`, `decoder_task_ids`, all int32; `decoder_loss_weights` float32.

      With `soft`, each label a row can have is a decoder segment of its own, all of them attending
      to the one encoder segment in `decoder_cross_segment_ids` (int32); `decoder_choice_probs`
      (float32) has the label's probability at each of its tokens, and only the gold label's tokens
      have a loss weight.
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
    if soft:
        cross = np.zeros(targets_length, np.int32)
        probs = np.zeros(targets_length, np.float32)
    start, target_start, part = 0, 0, 0
    for number, segment in enumerate(segments, 1):
        end = start + len(segment.inputs)
        encoder["encoder_input_tokens"][start:end] = segment.inputs
        encoder["encoder_segment_ids"][start:end] = number
        encoder["encoder_positions"][start:end] = np.arange(end - start)
        first = target_start
        for place, length in enumerate(segment.choices if soft else [len(segment.targets)]):
            part += 1
            target_end = target_start + length
            tokens = segment.targets[target_start - first : target_end - first]
            decoder["decoder_target_tokens"][target_start:target_end] = tokens
            decoder["decoder_input_tokens"][target_start + 1 : target_end] = tokens[:-1]
            decoder["decoder_segment_ids"][target_start:target_end] = part
            decoder["decoder_positions"][target_start:target_end] = np.arange(length)
            decoder["decoder_task_ids"][target_start:target_end] = segment.task_id
            weights[target_start:target_end] = not soft or place == segment.gold
            if soft:
                cross[target_start:target_end] = number
                probs[target_start:target_end] = segment.probs[place]
            target_start = target_end
        start = end
    features = encoder | decoder | {"decoder_loss_weights": weights}
    if soft:
        features |= {"decoder_cross_segment_ids": cross, "decoder_choice_probs": probs}
    return features
