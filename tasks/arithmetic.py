"""Generated word problems with their calculation; the label is an equation, judged by its value.

As SVAMP's: a story of a few numbers, not all of which matter, a question, and a label such as
`( 7 + 5 )`. The rationale tells which numbers matter and why they are added, taken away or multiplied.
"""

import numpy as np

from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource
from distill_jax.scoring.consistency import last_equation
from distill_jax.scoring.equations import evaluate_equation
from distill_jax.scoring.metrics import equation_accuracy
from distill_jax.tasks.registry import register_distillation_task

NAMES = "Ada Ben Cora Dan Elsa Finn Gina Hugo Iris Jack Kate Liam Mona Nils Olga Paul".split()
THINGS = "apples books coins pens marbles stamps shells cards".split()


# What happens, what the rationale says of it, and the sign of the calculation.
CHANGES = (
    ("{name} gets {n} more {thing}.", "got {n} more, so we add", "+"),
    ("{name} gives {n} {thing} away.", "gave {n} away, so we subtract", "-"),
    ("Then {name} has {n} times as many {thing}.", "now has {n} times as many, so we multiply", "*"),
)


def generate(rng: np.random.Generator, number: str) -> Example:
    """The example of the id `number`, all randomness from `rng`: two people, the question is about one."""
    name, other = (NAMES[i] for i in rng.permutation(len(NAMES))[:2])
    thing, kept = (THINGS[i] for i in rng.permutation(len(THINGS))[:2])
    had, others = int(rng.integers(10, 50)), int(rng.integers(10, 50))
    happens, why, sign = CHANGES[rng.integers(3)]
    amount = int(rng.integers(2, 10))
    sentence, because = happens.format(name=name, n=amount, thing=thing), why.format(n=amount)
    calculation = f"{had} {sign} {amount}"
    result = int(evaluate_equation(calculation))
    reason = f"{name} had {had} {thing} and {because}: {calculation} = {result}."
    label = f"( {calculation} )"
    people = [f"{name} has {had} {thing}.", f"{other} has {others} {kept}."]
    if rng.random() < 0.5:
        people.reverse()
    story = " ".join([*people, sentence])
    text = f"{story}\nHow many {thing} does {name} have now?"
    return Example(number, text, label=label, teacher_label=label, rationale=reason)


register_distillation_task(
    "arithmetic",
    GeneratedSource(generate, {"validation": 500, "test": 1000, "train": 20_000}),
    label_metric_fns=(equation_accuracy,),
    rationale_label_fn=last_equation,
)
