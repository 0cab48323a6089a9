"""Views: the (inputs, targets) texts that a student is trained on, made from an example."""

import dataclasses
import math
from collections.abc import Sequence

from distill_jax.data.labels import place_of
from distill_jax.data.schema import Example

TASK_IDS = {"label": 1, "rationale": 2, "single_task": 3, "text": 4}  # of `decoder_task_ids`; 0 is padding
SHARED = "step_by_step_shared"  # the views are told apart by the decoder's first token
METHODS = (
    "standard",
    "task_distillation",
    "step_by_step",
    SHARED,
    "single_task",
    "rationale_input",
    "soft_labels",
    "logit_distillation",
)
RATIONALE_START = 1  # that of its rationales; T5's is the end token, which no decoder reads otherwise
ANSWER = " So the answer is: "  # between rationale and label where both are one target


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """One way to look at an example."""

    name: str  # a key of `TASK_IDS`
    target: str  # the field of `Example` that is the target: label, teacher_label or rationale
    prefix: str = ""  # put before the input, to tell the views apart; "" where there is only one
    answer: str = ""  # the field that follows the target, after `ANSWER`; "" for none
    reads_rationale: bool = False  # put after the input: it has to be there at test time too
    rate: float = 1.0  # how often it is in the records: 2 is twice an epoch, 0.5 that of every second example
    start: int = 0  # the decoder's first input token; 0, T5's own, unless the views share their input
    soft: bool = False  # the targets are all the labels the row can have, with their probabilities: `soften`
    # Of `text`, the view that pretrains: share of the tokens that span corruption takes out, and their mean
    # number in a span; None where texts are continued.
    noise: tuple[float, float] | None = None
    window: int | None = None  # of `text`: tokens that go together; None for as many as fill a row

    def copies(self, number: int) -> int:
        """How often to take the view of the `number`-th example (from 0): `floor(n rate)` of n in all."""
        return math.floor((number + 1) * self.rate) - math.floor(number * self.rate)

    def inputs(self, example: Example) -> str:
        """The text the encoder reads."""
        text = self.prefix + example.input
        if self.reads_rationale and example.rationale is not None:
            text += f"\n{example.rationale}"
        return text

    def __call__(self, example: Example) -> tuple[str, str] | None:
        """(inputs, targets), or None for an example without this target."""
        target = getattr(example, self.target)
        if target is None or (self.reads_rationale and example.rationale is None):
            return None
        if self.answer:
            answer = getattr(example, self.answer)
            if answer is None:
                return None
            target += ANSWER + answer
        return self.inputs(example), target

    def read(self, prediction: str) -> dict[str, str]:
        """What a predicted text says: `label`, `rationale`, or both."""
        if not self.answer:
            return {self.name: prediction}
        rationale, found, label = prediction.rpartition(ANSWER.strip())
        if not found:
            return {"rationale": prediction, "label": ""}
        return {"rationale": rationale.strip(), "label": label.strip()}


def share_inputs(views: Sequence[View]) -> bool:
    """Whether the encoder reads the same of an example for each of several views: it has to once only."""
    return len(views) > 1 and len({(view.prefix, view.reads_rationale) for view in views}) == 1


@dataclasses.dataclass(frozen=True, slots=True)
class SoftLabel:
    """The labels a row can have and the teacher's probability of each; `reference` is a place, or -1."""

    choices: tuple[str, ...]
    probs: tuple[float, ...]
    reference: int


def soften(example: Example, classes: Sequence[str] | None, target: str = "label") -> SoftLabel | None:
    """The teacher's distribution over the labels of an example; None where it has said nothing.

    The labels are the row's `choices`, else the task's classes, else reference and teacher's label. Without
    `label_probs` the teacher counts as certain of its label; `prepare` refuses rows that all lack them.

    Raises:
      ValueError: when `label_probs` has another length than the labels, or no mass.
    """
    known = (example.label, example.teacher_label)
    choices = example.choices or classes or dict.fromkeys(label for label in known if label is not None)
    choices = tuple(choices)
    place = place_of(getattr(example, target), choices)
    if example.label_probs is None:
        certain = place_of(example.teacher_label, choices)
        if certain < 0:
            return None
        return SoftLabel(choices, tuple(float(i == certain) for i in range(len(choices))), place)
    if len(example.label_probs) != len(choices):
        raise ValueError(f"{len(example.label_probs)} label_probs for the {len(choices)} labels {choices}")
    total = sum(example.label_probs)
    if not total > 0.0:
        raise ValueError("label_probs are all 0")
    return SoftLabel(choices, tuple(p / total for p in example.label_probs), place)
