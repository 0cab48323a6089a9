"""Generated premise/hypothesis pairs with the reason, as an LLM teacher would explain them.

    Premise: Ada has a trout and a saw. Ben sees an owl. Hypothesis: Both are of the same kind.
    contradiction, because: A fish and a tool. The other is a bird.

To judge it one must know that a trout is a fish and a saw a tool. The label says whether the two kinds agree,
and nothing of the third thing; the reason names the kinds of all that the premise tells.

The splits are disjoint in the words that are judged: each kind's words are dealt out to train, validation and
test, and both things of a pair come from its split's words. What kind a test word is of, no label of train
tells: it stands there as the third thing only, whose kind is independent of the label. Its reasons tell it.
"""

import functools
import itertools
import re
from collections.abc import Mapping

from distill_jax.data.schema import Example
from distill_jax.data.sources import ProductSource
from distill_jax.tasks.registry import register_distillation_task

CLASSES = ("entailment", "neutral", "contradiction")
SHARES = {"entailment": 2, "neutral": 1, "contradiction": 2}
SIZES = {"validation": 500, "test": 1000, "train": 20_000}
NAMES = (
    "Ada Ben Cora Dan Elsa Finn Gina Hugo Iris Jack Kate Liam Mona Nils Olga Paul Quinn Rosa Sam Tara "
    "Uma Vera Will Xena Yann Zoe"
).split()
KINDS = {
    "fish": "trout salmon carp pike perch herring cod tuna eel sardine mackerel haddock halibut "
    "anchovy flounder turbot",
    "bird": "robin crow owl hawk finch sparrow heron stork magpie raven eagle falcon pigeon "
    "swallow thrush pelican",
    "fruit": "apple pear plum cherry mango peach lemon grape banana melon apricot fig lime kiwi papaya quince",
    "vegetable": "carrot leek turnip radish cabbage onion parsnip beet lettuce potato shallot cucumber "
    "artichoke cauliflower zucchini rutabaga",
    "tool": "hammer saw drill wrench chisel pickaxe screwdriver axe spade rake shovel sickle "
    "crowbar mallet hoe trowel",
    "instrument": "violin flute piano harp drum trumpet cello oboe clarinet guitar trombone banjo "
    "bassoon mandolin accordion lute",
    "tree": "oak elm birch maple willow cedar spruce larch poplar beech alder hazel linden "
    "sequoia cypress rowan",
    "flower": "tulip daisy lily rose orchid poppy violet peony dahlia marigold carnation crocus "
    "hyacinth daffodil pansy buttercup",
    "insect": "ant bee wasp moth beetle cricket termite hornet locust mosquito butterfly "
    "grasshopper ladybug dragonfly mantis cicada",
    "vehicle": "car bus truck bicycle tram van scooter train canoe ferry tractor taxi lorry "
    "motorcycle wagon yacht",
    "garment": "shirt scarf coat glove sock hat skirt jacket sweater blouse dress cardigan waistcoat "
    "mitten cape tunic",
    "seat": "chair sofa bench stool armchair couch pew throne hammock saddle ottoman recliner "
    "settee deckchair highchair beanbag",
}
WORDS = {kind: words.split() for kind, words in KINDS.items()}
KIND_OF = {word: kind for kind, words in WORDS.items() for word in words}
# Which words of a kind are judged in a split, by their place in its list.
PLACES = {"train": slice(0, 8), "validation": slice(8, 11), "test": slice(11, 16)}


def article(word: str) -> str:
    """The word with `a` or `an`."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


@functools.cache
def parts(split: str, label: str) -> tuple[list, ...]:
    """What a row of a label is made of: pair (its second word None for `neutral`), third word, names."""
    judged = {kind: words[PLACES[split]] for kind, words in WORDS.items()}
    words = [word for each in judged.values() for word in each]
    if label == "neutral":
        pairs = [(word, None) for word in words]
    else:
        agrees = label == "entailment"
        pairs = [p for p in itertools.permutations(words, 2) if (KIND_OF[p[0]] == KIND_OF[p[1]]) == agrees]
    return pairs, list(KIND_OF), list(itertools.permutations(NAMES, 2))


def write(number: str, label: str, pair: tuple[str, str | None], third: str, names: tuple[str, str]) -> Example:
    """The example of the id `number`.

    The reason begins with the kinds. One that repeated the words first (`A trout is a fish, …`) would
    teach the student little: its decoder could turn the word it has just written into the kind, and
    the encoder, which the label has to make do with, would learn nothing (tried: no gain).
    """
    (one, two), (owner, other) = pair, names
    things = article(one), article(two) if two else "something else"
    kinds = article(KIND_OF[one]), article(KIND_OF[two]) if two else "we do not know"
    premise = f"{owner} has {things[0]} and {things[1]}. {other} sees {article(third)}."
    reason = f"{kinds[0][0].upper()}{kinds[0][1:]} and {kinds[1]}. The other is {article(KIND_OF[third])}."
    text = f"Premise: {premise} Hypothesis: Both are of the same kind."
    return Example(number, text, label=label, teacher_label=label, rationale=reason)


def implied(rationale, example=None):
    """`A fish and a tool. The other is a bird.` -> contradiction: whether the first two kinds agree."""
    del example
    judged = rationale.partition(".")[0].lower()
    if "do not know" in judged:
        return "neutral"
    kinds = [word for word in re.findall(r"\w+", judged) if word in WORDS]
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
