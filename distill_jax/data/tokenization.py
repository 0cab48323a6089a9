"""Examples to token segments: SeqIO's `tokenize` and `append_eos_after_trim`, and what they cut."""

import dataclasses
from collections.abc import Mapping, Sequence

from distill_jax.config import PrepareConfig
from distill_jax.data.labels import place_of
from distill_jax.data.records import Segment
from distill_jax.data.schema import Example
from distill_jax.data.views import TASK_IDS, View, share_inputs, soften
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.errors import UserError


@dataclasses.dataclass
class Counts:
    """What went into the records."""

    examples: int = 0  # read
    rows: int = 0  # written
    views: dict[str, int] = dataclasses.field(default_factory=dict)  # segments, by view as the next two
    with_target: dict[str, int] = dataclasses.field(default_factory=dict)  # examples with the view's target
    without_target: dict[str, int] = dataclasses.field(default_factory=dict)  # examples that lack it
    truncated_inputs: int = 0  # longer than their length, and cut
    truncated_targets: int = 0
    encoder_tokens: int = 0  # of all inputs
    decoder_tokens: int = 0  # of all targets
    unknown_tokens: int = 0  # among these, ids that stand for what the vocabulary cannot write
    labels_of_no_class: int = 0  # none of the row's choices or the task's classes
    other_labels: dict[str, int] = dataclasses.field(default_factory=dict)  # these, by their text
    without_label_probs: int = 0  # soft labels of a teacher that counts as certain, for want of `label_probs`
    null_rationales: int = 0  # such as `nan` or `None`, which a program wrote for a missing one
    null_labels: int = 0  # likewise, where classes and choices are not known
    # The first ten pairs of labels with the same ids, which no student can tell apart.
    equal_labels: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def input(self, tokens: Sequence[int], length: int, vocabulary: Vocabulary) -> list[int]:
        """The tokens of an input as a student reads it, cut to the length, and counted."""
        self.truncated_inputs += len(tokens) > vocabulary.room(length)
        tokens = vocabulary.frame(tokens, length)
        self.unknown_tokens += tokens.count(vocabulary.unk_id)
        return tokens

    def compare_to_classes(self, text: str, place: int) -> None:
        """Counts a label by its place among the classes, -1 of none; at most 10,000 texts are told apart."""
        if place < 0:
            self.labels_of_no_class += 1
            if text in self.other_labels or len(self.other_labels) < 10_000:
                self.other_labels[text] = self.other_labels.get(text, 0) + 1

    def compare_labels(self, ids: Mapping[str, Sequence[int]], seen: dict[tuple[int, ...], str]) -> None:
        """Adds to `equal_labels`; `seen` maps ids to the first text that has them, of at most 10,000 texts."""
        for text, tokens in ids.items():
            first = seen.setdefault(tuple(tokens), text) if len(seen) < 10_000 else text
            pair = (first, text)
            if first != text and len(self.equal_labels) < 10 and pair not in self.equal_labels:
                self.equal_labels.append(pair)


NULLS = set("nan none null na n/a #n/a <na> nat".split())  # what pandas and others write for a missing text


def new_counts(views: Sequence[View]) -> Counts:
    """Counts of nothing yet, for these views."""
    names = [view.name for view in views]
    return Counts(**{field: dict.fromkeys(names, 0) for field in ("views", "with_target", "without_target")})


def tokenize(
    examples: Sequence[tuple[int, Example]],
    views: Sequence[View],
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
    counts: Counts,
    classes: Sequence[str] | None = None,
    labels: dict[tuple[int, ...], str] | None = None,
) -> list[list[Segment]]:
    """All `views` of some numbered examples, each text cut so that the end token still fits its length.

    A view whose target an example lacks is left out and counted.

    Args:
      counts: is added to.
      classes: of the task: the targets of soft labels; of others those that are no class are counted.
      labels: ids -> label of what was tokenized before, to find labels with the same ids; is added to.

    Returns:
      Segments that stay together in a row: the views of an example where they share their inputs, and the
      targets have room; else each one alone.

    Raises:
      UserError: when the labels of a soft label are together longer than a row.
    """
    labels = {} if labels is None else labels
    if any(view.soft for view in views):
        soft = _tokenize_soft(examples, views[0], vocabulary, lengths, counts, classes, labels)
        return [[segment] for segment in soft]
    shared = share_inputs(views)
    chosen: list[tuple[int, View, str, str]] = []
    for number, example in examples:
        counts.examples += 1
        for view in views:
            texts = view(example)
            if texts is None:
                counts.without_target[view.name] += 1
                continue
            if view.target == "rationale":
                counts.null_rationales += example.rationale.strip().casefold() in NULLS
            elif options := example.choices or classes:
                counts.compare_to_classes(texts[1], place_of(texts[1], options))
            else:
                counts.null_labels += texts[1].strip().casefold() in NULLS
            copies = view.copies(counts.with_target[view.name])
            counts.with_target[view.name] += 1
            counts.views[view.name] += copies
            chosen += [(number, view, *texts)] * copies
    targets_room = lengths["targets"] - 1
    groups: list[list[Segment]] = []
    sources = vocabulary.encode_batch([text for _, _, text, _ in chosen])
    targets = vocabulary.encode_targets([text for _, _, _, text in chosen])
    for (number, view, _, text), source, target in zip(chosen, sources, targets, strict=True):
        counts.truncated_targets += len(target) > targets_room
        source = counts.input(source, lengths["inputs"], vocabulary)
        target, start = [*target[:targets_room], vocabulary.eos_id], vocabulary.starts[view.start]
        counts.unknown_tokens += target.count(vocabulary.unk_id)
        if view.name == "label":
            counts.compare_labels({text: target}, labels)
        counts.decoder_tokens += len(target)
        if shared and groups and groups[-1][0].example == number:
            taken = sum(len(segment.targets) for segment in groups[-1])
            if taken + len(target) <= lengths["targets"]:
                groups[-1].append(Segment((), target, TASK_IDS[view.name], number, start=start))
                continue
        counts.encoder_tokens += len(source)
        groups.append([Segment(source, target, TASK_IDS[view.name], number, start=start)])
    return groups


def _tokenize_soft(
    examples: Sequence[tuple[int, Example]],
    view: View,
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
    counts: Counts,
    classes: Sequence[str] | None,
    labels: dict[tuple[int, ...], str],
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
        counts.without_label_probs += example.label_probs is None
        if (text := getattr(example, view.target)) is not None:
            counts.compare_to_classes(text, label.reference)
        kept.append((number, example, label))
    choices = sorted({choice for _, _, label in kept for choice in label.choices})
    ids = dict(zip(choices, vocabulary.encode_targets(choices), strict=True))
    counts.compare_labels(ids, labels)
    counts.unknown_tokens += sum(tokens.count(vocabulary.unk_id) for tokens in ids.values())
    inputs = vocabulary.encode_batch([view.inputs(example) for _, example, _ in kept])
    segments, start = [], vocabulary.starts[view.start]
    for (number, example, label), source in zip(kept, inputs, strict=True):
        flat = [token for choice in label.choices for token in (*ids[choice], vocabulary.eos_id)]
        sizes = [len(ids[choice]) + 1 for choice in label.choices]
        if len(flat) > lengths["targets"]:
            option = PrepareConfig.named("task_feature_lengths")
            raise UserError(
                f"example {example.id}: its {len(sizes)} labels take {len(flat)} tokens, but "
                f"{option} has {lengths['targets']} for targets: raise it"
            )
        source = counts.input(source, lengths["inputs"], vocabulary)
        counts.encoder_tokens += len(source)
        counts.decoder_tokens += len(flat)
        soft = (sizes, label.probs, label.reference, start)
        segments.append(Segment(source, flat, TASK_IDS[view.name], number, *soft))
    return segments
