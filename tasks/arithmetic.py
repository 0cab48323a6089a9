"""Generated word problems with their calculation; the label is an equation, judged by its value.

As SVAMP's: a story of a few numbers, not all of which matter, a question, and a label such as
`( 7 + 5 )`. The rationale tells which numbers matter and why they are added, taken away or multiplied.
The splits are disjoint in the calculations, and the three signs are equally frequent in each.
"""

import functools
import itertools
from collections.abc import Mapping

from distill_jax.data.schema import Example
from distill_jax.data.sources import ProductSource
from distill_jax.scoring.consistency import last_equation
from distill_jax.scoring.equations import evaluate_equation
from distill_jax.scoring.metrics import equation_accuracy
from distill_jax.tasks.registry import register_distillation_task

SIZES = {"validation": 500, "test": 1000, "train": 20_000}
NAMES = "Ada Ben Cora Dan Elsa Finn Gina Hugo Iris Jack Kate Liam Mona Nils Olga Paul".split()
THINGS = "apples books coins pens marbles stamps shells cards".split()


# Sign of the calculation -> what happens, and what the rationale says of it.
CHANGES = {
    "+": ("{name} gets {n} more {thing}.", "got {n} more, so we add"),
    "-": ("{name} gives {n} {thing} away.", "gave {n} away, so we subtract"),
    "*": ("Then {name} has {n} times as many {thing}.", "now has {n} times as many, so we multiply"),
}


@functools.cache
def parts(split: str, sign: str) -> tuple[list, ...]:
    """What a row is made of: its calculation's numbers, two names, two things, the other number, the order.

    A twentieth of the calculations is validation's and a tenth test's, each with every first and second number.
    """
    del sign
    places = {"validation": range(1), "test": range(1, 3), "train": range(3, 20)}[split]
    numbers = [(had, n) for had in range(10, 50) for n in range(2, 10) if (had + 7 * n) % 20 in places]
    pairs = (list(itertools.permutations(each, 2)) for each in (NAMES, THINGS))
    return numbers, *pairs, list(range(10, 50)), [False, True]


def write(
    number: str,
    sign: str,
    numbers: tuple[int, int],
    names: tuple[str, str],
    things: tuple[str, str],
    others: int,
    is_other_first: bool,
) -> Example:
    """The example of the id `number`: two people, the question is about the first."""
    (had, amount), (name, other), (thing, kept) = numbers, names, things
    happens, why = (text.format(name=name, n=amount, thing=thing) for text in CHANGES[sign])
    calculation = f"{had} {sign} {amount}"
    result = int(evaluate_equation(calculation))
    reason = f"{name} had {had} {thing} and {why}: {calculation} = {result}."
    label = f"( {calculation} )"
    people = [f"{name} has {had} {thing}.", f"{other} has {others} {kept}."]
    story = " ".join([*(people[::-1] if is_other_first else people), happens])
    text = f"{story}\nHow many {thing} does {name} have now?"
    return Example(number, text, label=label, teacher_label=label, rationale=reason)


def source(sizes: Mapping[str, int] = SIZES, seed: int = 0) -> ProductSource:
    """The task's rows, at other sizes or with another seed; a UserError tells the most there are."""
    return ProductSource(write, parts, dict.fromkeys(CHANGES, 1), sizes, seed)


register_distillation_task(
    "arithmetic", source(), label_metric_fns=(equation_accuracy,), rationale_label_fn=last_equation
)
