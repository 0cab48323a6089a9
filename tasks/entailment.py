"""Generated premise/hypothesis pairs with the reason, as an LLM teacher would explain them.

A premise tells of several people what they have or where they are; the hypothesis claims something of
one of them. To judge it, find the one fact that matters and compare. The reason names that fact; the
label alone does not.
"""

import numpy as np

from distill_jax.data.registry import register_distillation_task
from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource

CLASSES = ("entailment", "neutral", "contradiction")
NAMES = (
    "Ada Ben Cora Dan Elsa Finn Gina Hugo Iris Jack Kate Liam Mona Nils Olga Paul Quinn Rosa Sam Tara "
    "Uma Vera Will Xena Yann Zoe"
).split()
THINGS = (
    "apple pear plum cherry mango hammer saw drill wrench chisel robin crow owl hawk finch violin flute "
    "piano harp drum"
).split()
PLACES = (
    "Paris Lyon Nice Lille Rome Milan Turin Naples Tokyo Osaka Kyoto Nagoya Recife Salvador Manaus Belem"
).split()


def _pick(rng: np.random.Generator, options) -> str:
    options = list(options)
    return options[rng.integers(len(options))]


def article(word: str) -> str:
    """The word with `a` or `an`."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def fact(name: str, what: str) -> str:
    """`Ada has a pear.` or `Ada is in Rome.`"""
    return f"{name} is in {what}." if what in PLACES else f"{name} has {article(what)}."


def generate(rng: np.random.Generator, number: str, facts: int = 3) -> Example:
    """One example; the three labels are equally likely.

    Args:
      rng: all randomness comes from it.
      number: becomes the example's id.
      facts: sentences of the premise, each of another person.
    """
    names = [NAMES[i] for i in rng.permutation(len(NAMES))[:facts]]
    whats = [_pick(rng, THINGS) if rng.random() < 0.5 else _pick(rng, PLACES) for _ in names]
    label = _pick(rng, CLASSES)
    about = rng.integers(facts)
    name, what = names[about], whats[about]
    is_place = what in PLACES
    reason = fact(name, what)[:-1]
    if label == "entailment":
        claim = fact(name, what)
        reason += ", as the hypothesis says."
    elif label == "contradiction":
        other = _pick(rng, [w for w in (PLACES if is_place else THINGS) if w != what])
        claim = fact(name, other)
        reason += f", not {'in ' + other if is_place else article(other)}."
    else:
        claim = fact(name, _pick(rng, THINGS if is_place else PLACES))
        reason += f", but nothing says {'what ' + name + ' has' if is_place else 'where ' + name + ' is'}."
    premise = " ".join(fact(n, w) for n, w in zip(names, whats, strict=True))
    return Example(
        id=number,
        input=f"Premise: {premise} Hypothesis: {claim}",
        label=label,
        teacher_label=label,
        rationale=reason,
    )


register_distillation_task(
    "entailment",
    GeneratedSource(generate, {"validation": 500, "test": 1000, "train": 20_000}),
    classes=CLASSES,
)
