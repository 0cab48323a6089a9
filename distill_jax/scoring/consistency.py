"""The label that a rationale speaks for: what a student's own label is held against.

A function of (rationale, example) gives that label, or None where the rationale speaks for none. A task names
its function in `rationale_label_fn`; without one, it is the only choice that the rationale names.
"""

import re
from collections.abc import Sequence

from distill_jax.data.schema import Example
from distill_jax.scoring.equations import evaluate_equation

# Bounded, so that a search takes time in proportion to the text.
_NUMBER = r"-?\d[\d,]{0,40}(?:\.\d{1,40})?"
_EXPRESSION = re.compile(
    rf"(?:\(\s?){{0,20}}{_NUMBER}(?:[\s)]{{0,20}}[-+*/x×÷][\s(]{{0,20}}{_NUMBER})+[\s)]{{0,20}}"
)
_SIGNS = str.maketrans({"x": "*", "×": "*", "÷": "/", ",": None})


def named_choice(rationale: str, choices: Sequence[str]) -> str | None:
    """The one choice whose text the rationale has, as whole words in any case; None for none or several.

    Where the text of a choice holds that of another (`river bank`, `bank`), the longer one is read.
    """
    longest_first = sorted({choice.strip() for choice in choices if choice.strip()}, key=len, reverse=True)
    if not longest_first:
        return None
    pattern = "|".join(re.escape(choice) for choice in longest_first)
    found = {match.lower() for match in re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", rationale, re.IGNORECASE)}
    named = [choice for choice in longest_first if choice.lower() in found]
    return named[0] if len(named) == 1 else None


def last_equation(rationale: str, example: Example | None = None) -> str | None:
    """The last calculation in a rationale, such as `84 / 2` of `So 84 / 2 = 42.`; None where there is none."""
    del example
    for found in reversed(_EXPRESSION.findall(rationale)):
        expression = found.translate(_SIGNS).strip()
        for text in (expression, expression.strip("() ")):
            if evaluate_equation(text) is not None:
                return text
    return None
