"""Views: the (inputs, targets) texts that a student is trained on, made from an example."""

import dataclasses

from distill_jax.data.schema import Example

TASK_IDS = {"label": 1, "rationale": 2}  # values of the feature `decoder_task_ids`; 0 is padding


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """One way to look at an example.

    Attributes:
      name: a key of `TASK_IDS`.
      target: the field of `Example` that is the target: label, teacher_label or rationale.
      prefix: put before the input, to tell the views apart; "" where there is only one.
    """

    name: str
    target: str
    prefix: str = ""

    def inputs(self, example: Example) -> str:
        """The text the encoder reads."""
        return self.prefix + example.input

    def __call__(self, example: Example) -> tuple[str, str] | None:
        """(inputs, targets), or None for an example without this target."""
        target = getattr(example, self.target)
        return None if target is None else (self.inputs(example), target)
