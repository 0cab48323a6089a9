"""Generated premise/hypothesis pairs with the reason, as an LLM teacher would explain them.

A premise names two things that somebody has; the hypothesis claims that they are of the same kind. To judge
it one must know that a trout is a fish and a saw a tool. The label says only whether the kinds agree; the
reason names them, and so brings the knowledge that the label needs.
"""

import re

import numpy as np

from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource
from distill_jax.tasks.registry import register_distillation_task

CLASSES = ("entailment", "neutral", "contradiction")
SHARES = (0.4, 0.2, 0.4)  # of the classes
NAMES = (
    "Ada Ben Cora Dan Elsa Finn Gina Hugo Iris Jack Kate Liam Mona Nils Olga Paul Quinn Rosa Sam Tara "
    "Uma Vera Will Xena Yann Zoe"
).split()
KINDS = {
    "fish": "trout salmon carp pike perch herring cod tuna eel sardine",
    "bird": "robin crow owl hawk finch sparrow heron stork magpie raven",
    "fruit": "apple pear plum cherry mango peach lemon grape banana melon",
    "vegetable": "carrot leek turnip radish cabbage onion parsnip beet lettuce potato",
    "tool": "hammer saw drill wrench chisel pickaxe screwdriver axe spade rake",
    "instrument": "violin flute piano harp drum trumpet cello oboe clarinet guitar",
    "tree": "oak elm birch maple willow cedar spruce larch poplar beech",
    "flower": "tulip daisy lily rose orchid poppy violet peony dahlia marigold",
    "insect": "ant bee wasp moth beetle cricket termite hornet locust mosquito",
    "vehicle": "car bus truck bicycle tram van scooter train canoe ferry",
    "garment": "shirt scarf coat glove sock hat skirt jacket sweater blouse",
    "seat": "chair sofa bench stool armchair couch pew throne hammock saddle",
}
WORDS = {kind: words.split() for kind, words in KINDS.items()}


def article(word: str) -> str:
    """The word with `a` or `an`."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def generate(rng: np.random.Generator, number: str) -> Example:
    """The example of the id `number`, all randomness from `rng`.

    The reason begins with the kinds. One that repeated the words first (`A trout is a fish, …`) would
    teach the student little: its decoder could turn the word it has just written into the kind, and
    the encoder, which the label has to make do with, would learn nothing (tried: no gain).
    """
    name = rng.choice(NAMES)
    label = CLASSES[rng.choice(len(CLASSES), p=SHARES)]
    kind, other = (list(WORDS)[i] for i in rng.permutation(len(WORDS))[:2])
    one, two = rng.choice(WORDS[kind], size=2, replace=False)
    if label == "entailment":
        other = kind
    elif label == "contradiction":
        two = rng.choice(WORDS[other])
    told, reason = [article(one), article(two)], [article(kind), article(other)]
    if label == "neutral":
        told[1], reason[1] = "something else", "we do not know"
    text = f"Premise: {name} has {told[0]} and {told[1]}. Hypothesis: Both are of the same kind."
    rationale = f"{reason[0][0].upper()}{reason[0][1:]} and {reason[1]}."
    return Example(number, text, label=label, teacher_label=label, rationale=rationale)


def implied(rationale, example=None):
    """`A fish and a tool.` -> contradiction: whether the two kinds that a reason names agree."""
    del example
    if "do not know" in rationale:
        return "neutral"
    kinds = [word for word in re.findall(r"\w+", rationale.lower()) if word in WORDS]
    if len(kinds) != 2:
        return None
    return "entailment" if kinds[0] == kinds[1] else "contradiction"


register_distillation_task(
    "entailment",
    GeneratedSource(generate, {"validation": 500, "test": 1000, "train": 20_000}),
    classes=CLASSES,
    rationale_label_fn=implied,
)
