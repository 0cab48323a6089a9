"""The row of data everything starts from."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One input, what is known to be right about it, and what the teacher said of it.

    Attributes:
      id: unique within the split, and the same from run to run.
      input: the text the student sees.
      label: the reference label; None where nobody has labelled the row.
      teacher_label: the label in the teacher's completion; None where it could not be parsed.
      rationale: the teacher's reasons; None likewise.
      label_probs: the teacher's probability of each of `choices`, or of each class of the task.
      choices: the labels this row can have, where they differ from row to row.
    """

    id: str
    input: str
    label: str | None = None
    teacher_label: str | None = None
    rationale: str | None = None
    label_probs: tuple[float, ...] | None = None
    choices: tuple[str, ...] | None = None


FIELDS = tuple(field.name for field in dataclasses.fields(Example))
