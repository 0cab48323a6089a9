"""Generated premise/hypothesis pairs with the reason, as an LLM teacher would explain them.

    Premise: Ada has a trout and a saw. Hypothesis: Both are of the same kind.
    contradiction, because: A fish and a tool.

To judge it one must know that a trout is a fish and a saw a tool. The label says only whether the kinds agree;
the reason names them.

The splits are disjoint in the pairs of words: a pair is of one split, in either order and whoever has it. All
words stand in all splits, each equally often with words of its own kind and of every other, so that neither a
pair nor a word says anything of the label: what kind a word is of must be learnt from other pairs.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any

from distill_jax.data.schema import Example
from distill_jax.data.sources import ProductSource
from distill_jax.tasks.registry import register_distillation_task

CLASSES = ("entailment", "neutral", "contradiction")
SHARES = {"entailment": 2, "neutral": 1, "contradiction": 2}
SIZES = {"validation": 500, "test": 1000, "train": 20_000}
NAMES = (
    "Ada Ben Cora Dan Elsa Finn Gina Hugo Iris Jack Kate Liam Mona Nils Olga Paul Quinn Rosa Sam Tara "
    "Uma Vera Will Xena Yann Zoe Anna Bill Cleo Dora Emil Fred Greta Hans Ines Jim Kira Lena Max Nora "
    "Oscar Pia Ron Sara Tom Ursula Vic Wanda Yara Zack"
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
KIND_OF = {word: kind for kind, words in WORDS.items() for word in words}
PER_KIND = len(WORDS["fish"])
# The rounds of a tournament, in each of which every word of a kind meets another one: those of each split.
ROUNDS = {"train": range(0, 6), "validation": range(6, 7), "test": range(7, 9)}
# By how many places two words of different kinds stand apart in their lists.
SHIFTS = {"train": range(0, 7), "validation": range(7, 8), "test": range(8, 10)}
NEUTRAL = {"train": range(0, 17), "validation": range(17, 18), "test": range(18, 20)}


def article(word: str) -> str:
    """The word with `a` or `an`."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _same(split: str) -> list[tuple[str, str]]:
    """Pairs of one kind: a round-robin tournament by the circle method, every pair in one of its rounds."""
    last = PER_KIND - 1
    places = [(last, r) for r in ROUNDS[split]]
    places += [((r + i) % last, (r - i) % last) for r in ROUNDS[split] for i in range(1, PER_KIND // 2)]
    return [(words[i], words[j]) for words in WORDS.values() for i, j in places]


def _different(split: str) -> list[tuple[str, str]]:
    """Pairs of two kinds."""
    places = [(i, (i + shift) % PER_KIND) for i in range(PER_KIND) for shift in SHIFTS[split]]
    kinds = itertools.combinations(WORDS.values(), 2)
    return [(one[i], two[j]) for one, two in kinds for i, j in places]


@functools.cache
def parts(split: str, label: str) -> tuple[list, ...]:
    """What a row of a label is made of: a pair of words, the second None for `neutral`, and a name."""
    if label == "neutral":
        numbered = itertools.product(enumerate(KIND_OF), enumerate(NAMES))
        return ([((word, None), name) for (i, word), (j, name) in numbered if (i + j) % 20 in NEUTRAL[split]],)
    pairs = _same(split) if label == "entailment" else _different(split)
    return [*pairs, *(pair[::-1] for pair in pairs)], NAMES


def write(number: str, label: str, *elements: Any) -> Example:
    """The example of the id `number`.

    The reason begins with the kinds. One that repeated the words first (`A trout is a fish, …`) would
    teach the student little: its decoder could turn the word it has just written into the kind, and
    the encoder, which the label has to make do with, would learn nothing (tried: no gain).
    """
    (one, two), name = elements[0] if label == "neutral" else elements
    things = article(one), article(two) if two else "something else"
    kinds = article(KIND_OF[one]), article(KIND_OF[two]) if two else "we do not know"
    text = f"Premise: {name} has {things[0]} and {things[1]}. Hypothesis: Both are of the same kind."
    rationale = f"{kinds[0][0].upper()}{kinds[0][1:]} and {kinds[1]}."
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


def asked(example: Example) -> frozenset[str] | None:
    """The two words that a row compares, in no order; None where one is not named."""
    one, two = re.search(r" has an? (\w+) and (?:an? (\w+)|something else)\.", example.input).groups()
    return frozenset((one, two)) if two else None


def source(sizes: Mapping[str, int] = SIZES, seed: int = 0) -> ProductSource:
    """The task's rows, at other sizes or with another seed; a UserError tells the most there are."""
    return ProductSource(write, parts, SHARES, sizes, seed)


register_distillation_task("entailment", source(), classes=CLASSES, rationale_label_fn=implied)
