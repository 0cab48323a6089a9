"""Generated premise/hypothesis pairs with the reason, as an LLM teacher would explain them.

A premise tells of several people what they have or where they are; the hypothesis claims something of one of
them in more general terms. To judge it, find the one fact that matters and know that a trout is a fish, or
that Lyon is in France. The reason says both; the label alone says neither.
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
THINGS = {
    "fruit": "apple pear plum cherry mango peach lemon fig".split(),
    "tool": "hammer saw drill wrench chisel file axe spade".split(),
    "fish": "trout salmon carp tuna cod perch pike eel".split(),
    "bird": "robin crow owl hawk finch swan gull heron".split(),
    "vehicle": "car truck van bus tram scooter tractor bike".split(),
    "instrument": "violin flute piano harp drum trumpet cello guitar".split(),
}
PLACES = {
    "France": "Paris Lyon Nice Lille Nantes Metz".split(),
    "Italy": "Rome Milan Turin Naples Pisa Genoa".split(),
    "Spain": "Madrid Seville Bilbao Malaga Toledo Cadiz".split(),
    "Japan": "Tokyo Osaka Kyoto Nagoya Sapporo Kobe".split(),
    "Brazil": "Recife Salvador Manaus Belem Natal Santos".split(),
    "Egypt": "Cairo Luxor Aswan Suez Giza Tanta".split(),
}
KIND_OF = {thing: kind for kind, things in THINGS.items() for thing in things}
COUNTRY_OF = {city: country for country, cities in PLACES.items() for city in cities}


def _pick(rng: np.random.Generator, options) -> str:
    options = list(options)
    return options[rng.integers(len(options))]


def article(word: str) -> str:
    """The word with `a` or `an`."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def fact(name: str, what: str) -> str:
    """`Ada has a pear.` or `Ada is in Lyon.`"""
    return f"{name} is in {what}." if what in COUNTRY_OF else f"{name} has {article(what)}."


def _claim(name: str, general: str) -> str:
    return f"{name} is in {general}." if general in PLACES else f"{name} has {article(general)}."


def generate(rng: np.random.Generator, number: str, facts: int = 4) -> Example:
    """One example; the three labels are equally likely.

    Args:
      rng: all randomness comes from it.
      number: becomes the example's id.
      facts: sentences of the premise, each of another person.
    """
    names = [NAMES[i] for i in rng.permutation(len(NAMES))[:facts]]
    whats = [_pick(rng, KIND_OF) if rng.random() < 0.5 else _pick(rng, COUNTRY_OF) for _ in names]
    label = _pick(rng, CLASSES)
    about = rng.integers(facts)
    name, what = names[about], whats[about]
    is_place = what in COUNTRY_OF
    general = COUNTRY_OF[what] if is_place else KIND_OF[what]
    if label == "entailment":
        claim = _claim(name, general)
        known = f"{what} is in {general}" if is_place else f"{article(what)} is {article(general)}"
        reason = f"{fact(name, what)[:-1]}, and {known}."
    elif label == "contradiction":
        other = _pick(rng, [g for g in (PLACES if is_place else THINGS) if g != general])
        claim = _claim(name, other) if is_place else f"All that {name} has is {article(other)}."
        known = f"{what} is in {general}" if is_place else f"{article(what)} is {article(general)}"
        reason = f"{fact(name, what)[:-1]}, and {known}, not {'in ' if is_place else ''}{other}."
    else:
        claim = _claim(name, _pick(rng, THINGS if is_place else PLACES))
        missing = f"what {name} has" if is_place else f"where {name} is"
        reason = f"{fact(name, what)[:-1]}, and nothing says {missing}."
    premise = " ".join(fact(n, w) for n, w in zip(names, whats, strict=True))
    return Example(
        id=number,
        input=f"Premise: {premise} Hypothesis: {claim}",
        label=label,
        teacher_label=label,
        rationale=reason,
    )


def story(rng: np.random.Generator) -> str:
    """A paragraph of the same small world, to pretrain on: facts, and some of them told again.

    It holds no hypothesis, label or reason, and nothing of what is a kind of what or where a city lies:
    a general word comes as often as a special one, about anybody.
    """
    count = int(rng.integers(3, 6))
    names = [NAMES[i] for i in rng.permutation(len(NAMES))[:count]]
    words = [*KIND_OF, *COUNTRY_OF, *3 * [*THINGS, *PLACES]]
    facts = []
    for name in names:
        what = _pick(rng, words)
        facts.append(fact(name, what) if what in KIND_OF or what in COUNTRY_OF else _claim(name, what))
    again = [facts[i] for i in rng.integers(count, size=int(rng.integers(1, 4)))]
    openings = ("Again:", "As I said,", "So", "Note that", "Indeed,")
    told = [f"{_pick(rng, openings)} {sentence}" for sentence in again]
    return " ".join([*facts, *told])


register_distillation_task(
    "entailment",
    GeneratedSource(generate, {"validation": 500, "test": 1000, "train": 20_000}),
    classes=CLASSES,
)
