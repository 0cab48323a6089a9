"""Generated word problems with their calculation; the label is an equation, judged by its value.

As SVAMP's: a story of a few numbers, not all of which matter, a question, and a label such as
`( 7 + 5 )`. The rationale tells which numbers matter and why they are added, taken away or multiplied.
"""

import numpy as np

from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource
from distill_jax.scoring.consistency import last_equation
from distill_jax.scoring.metrics import equation_accuracy
from distill_jax.tasks.registry import register_distillation_task

NAMES = "Ada Ben Cora Dan Elsa Finn Gina Hugo Iris Jack Kate Liam Mona Nils Olga Paul".split()
THINGS = "apples books coins pens marbles stamps shells cards".split()


def _gain(name: str, thing: str, had: int, more: int) -> tuple[str, str, str]:
    return (
        f"{name} gets {more} more {thing}.",
        f"{name} had {had} {thing} and got {more} more, so we add: {had} + {more} = {had + more}.",
        f"( {had} + {more} )",
    )


def _loss(name: str, thing: str, had: int, less: int) -> tuple[str, str, str]:
    return (
        f"{name} gives {less} {thing} away.",
        f"{name} had {had} {thing} and gave {less} away, so we subtract: {had} - {less} = {had - less}.",
        f"( {had} - {less} )",
    )


def _times(name: str, thing: str, had: int, times: int) -> tuple[str, str, str]:
    return (
        f"Then {name} has {times} times as many {thing}.",
        f"{name} had {had} {thing} and now has {times} times as many, so we multiply: "
        f"{had} * {times} = {had * times}.",
        f"( {had} * {times} )",
    )


def generate(rng: np.random.Generator, number: str) -> Example:
    """The example of the id `number`, all randomness from `rng`: two people, the question is about one."""
    name, other = (NAMES[i] for i in rng.permutation(len(NAMES))[:2])
    thing, kept = (THINGS[i] for i in rng.permutation(len(THINGS))[:2])
    had, others = int(rng.integers(10, 50)), int(rng.integers(10, 50))
    change = (_gain, _loss, _times)[rng.integers(3)]
    amount = int(rng.integers(2, 10))
    sentence, reason, label = change(name, thing, had, amount)
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
