"""Examples to token segments: SeqIO's `tokenize` and `append_eos_after_trim`, and what they cut."""

import dataclasses
from collections.abc import Mapping, Sequence

from distill_jax.data.records import Segment
from distill_jax.data.schema import Example
from distill_jax.data.views import TASK_IDS, View, share_inputs, soften
from distill_jax.data.vocabularies import EOS_ID, Vocabulary
from distill_jax.errors import UserError


@dataclasses.dataclass
class Counts:
    """What went into the records.

    By view name: `views` are its segments, `with_target` and `without_target` the examples that had one.
    """

    examples: int = 0
    rows: int = 0
    views: dict[str, int] = dataclasses.field(default_factory=dict)
    with_target: dict[str, int] = dataclasses.field(default_factory=dict)
    without_target: dict[str, int] = dataclasses.field(default_factory=dict)
    truncated_inputs: int = 0
    truncated_targets: int = 0
    encoder_tokens: int = 0
    decoder_tokens: int = 0


def new_counts(views: Sequence[View]) -> Counts:
    """Counts of nothing yet, for these views."""
    names = [view.name for view in views]
    return Counts(
        views=dict.fromkeys(names, 0),
        with_target=dict.fromkeys(names, 0),
        without_target=dict.fromkeys(names, 0),
    )


def tokenize(
    examples: Sequence[tuple[int, Example]],
    views: Sequence[View],
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
    counts: Counts,
    classes: Sequence[str] | None = None,
) -> list[list[Segment]]:
    """All views of some examples, each text cut so that the end token still fits its length.

    Args:
      examples: with their numbers in the split.
      views: what to make of each; a view whose target an example lacks is left out and counted.
      vocabulary: for both texts.
      lengths: `{"inputs": L, "targets": T}`, the end token included.
      counts: is added to.
      classes: of the task, for soft labels.

    Returns:
      Segments that stay together in a row: the views of an example where they share their inputs, and the
      targets have room; else each one alone.

    Raises:
      UserError: when the labels of a soft label are together longer than a row.
    """
    if any(view.soft for view in views):
        soft = _tokenize_soft(examples, views[0], vocabulary, lengths, counts, classes)
        return [[segment] for segment in soft]
    shared = share_inputs(views)
    numbers, chosen, inputs, targets = [], [], [], []
    for number, example in examples:
        counts.examples += 1
        for view in views:
            texts = view(example)
            if texts is None:
                counts.without_target[view.name] += 1
                continue
            copies = view.copies(counts.with_target[view.name])
            counts.with_target[view.name] += 1
            counts.views[view.name] += copies
            numbers += [number] * copies
            chosen += [view] * copies
            inputs += [texts[0]] * copies
            targets += [texts[1]] * copies
    inputs_room, targets_room = lengths["inputs"] - 1, lengths["targets"] - 1
    groups: list[list[Segment]] = []
    for number, view, source, target in zip(
        numbers,
        chosen,
        vocabulary.encode_batch(inputs),
        vocabulary.encode_batch(targets),
        strict=True,
    ):
        counts.truncated_inputs += len(source) > inputs_room
        counts.truncated_targets += len(target) > targets_room
        source, target = [*source[:inputs_room], EOS_ID], [*target[:targets_room], EOS_ID]
        counts.decoder_tokens += len(target)
        if shared and groups and groups[-1][0].example == number:
            taken = sum(len(segment.targets) for segment in groups[-1])
            if taken + len(target) <= lengths["targets"]:
                groups[-1].append(Segment((), target, TASK_IDS[view.name], number, start=view.start))
                continue
        counts.encoder_tokens += len(source)
        groups.append([Segment(source, target, TASK_IDS[view.name], number, start=view.start)])
    return groups


def _tokenize_soft(
    examples: Sequence[tuple[int, Example]],
    view: View,
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
    counts: Counts,
    classes: Sequence[str] | None,
) -> list[Segment]:
    """As `tokenize`; the targets of a segment are all labels of its example, each with its end token."""
    kept = []
    for number, example in examples:
        counts.examples += 1
        label = soften(example, classes, view.target)
        if label is None:
            counts.without_target[view.name] += 1
            continue
        counts.with_target[view.name] += 1
        counts.views[view.name] += 1
        kept.append((number, example, label))
    choices = sorted({choice for _, _, label in kept for choice in label.choices})
    ids = dict(zip(choices, vocabulary.encode_batch(choices), strict=True))
    inputs = vocabulary.encode_batch([view.inputs(example) for _, example, _ in kept])
    room = lengths["inputs"] - 1
    segments = []
    for (number, example, label), source in zip(kept, inputs, strict=True):
        targets = [[*ids[choice], EOS_ID] for choice in label.choices]
        sizes = [len(target) for target in targets]
        if sum(sizes) > lengths["targets"]:
            raise UserError(
                f"example {example.id}: its {len(sizes)} labels take {sum(sizes)} tokens, but "
                f"TASK_FEATURE_LENGTHS has {lengths['targets']} for targets: raise it"
            )
        counts.truncated_inputs += len(source) > room
        source = [*source[:room], EOS_ID]
        counts.encoder_tokens += len(source)
        counts.decoder_tokens += sum(sizes)
        flat = [token for target in targets for token in target]
        segments.append(Segment(source, flat, TASK_IDS[view.name], number, sizes, label.probs, label.gold))
    return segments
