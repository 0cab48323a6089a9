"""The quality of the teacher's samples: reading them, checks of the rationale, votes, class probabilities."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_jax.data.labels import meant
from distill_jax.data.schema import Example
from distill_jax.scoring.equations import evaluate_equation
from distill_jax.teachers import parsing, thinking
from distill_jax.teachers.messages import Token, trouble

_SIGN = r"-+*/x×÷()\d.,$%\s"
# The number is matched by a look-ahead, so that it can begin the next equality of a chain; where a calculation
# follows it (`3 + 4 = 10 - 3`) it is not what the left side equals.
_EQUALITY = re.compile(
    rf"(?<![{_SIGN}])([{_SIGN}]+)=(?=\s*((?>-?\$?\d[\d,]*(?:\.\d+)?%?))(?!\s*[-+*/x×÷]\s*[\d(]))", re.IGNORECASE
)
_LEAST, _MOST = -1000.0, 0.01  # a log-probability; servers mark a missing one by -9999, or nan
_LONGEST_LABEL = 1_000  # characters whose words are looked for one by one
_EQUALITIES = 500  # of a rationale that are looked at
_CERTAIN = 0.999
_UNCLEAR = 1e-6  # share of the probability that may belong to several labels
_READ = str.maketrans({"×": "*", "÷": "/", "x": "*", "X": "*", "$": None, ",": None, "%": "/100"})


@dataclasses.dataclass(frozen=True)
class Sample:
    """A completion that was parsed."""

    text: str
    label: str | None  # None where the text could not be read, or names none of the row's possible labels
    rationale: str | None  # None likewise, and for an answer that gives a label alone
    problem: str = ""  # why it has no vote: a name in `PROBLEMS`; "" where it has one
    probs: tuple[float, ...] | None = None  # the teacher's, of each possible label, from log-probabilities
    written: str | None = None  # the label as it stands in the text; None where the text could not be read


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A row with the label and rationale that its samples agree on."""

    example: Example  # with teacher_label, rationale and label_probs
    samples: tuple[Sample, ...]  # all, in order
    agreement: float | None  # share of the votes for the label; None without votes
    rationales: tuple[str, ...]  # of the samples that voted for the label


def arithmetic_holds(rationale: str, label: str = "") -> bool:
    """Whether every equality such as `a + b = c` is right, to the digits that are written."""
    del label
    written = itertools.islice(_EQUALITY.finditer(rationale), _EQUALITIES)
    return all(_holds(*equality.groups()) for equality in written)


def _holds(left: str, right: str) -> bool:
    """Whether an equality is right; one without a calculation counts as right."""
    sentence = re.split(r"[.,;:]\s", left)[-1]
    calculation = sentence.translate(_READ).strip().lstrip("*/+) ")
    value = evaluate_equation(calculation)
    if value is None or not re.search(r"\d\s*[-+*/]", calculation):
        return True
    number = right.strip("$%").replace("$", "").replace(",", "")
    decimals = len(number.partition(".")[2])
    rounded = bool(decimals) or "/" in calculation
    tolerance = (0.5 * 10.0**-decimals if rounded else 0.0) + 1e-9
    scales = (1, 100) if right.endswith("%") else (1,)
    return any(abs(scale * value - float(number)) <= tolerance for scale in scales)


def label_named(rationale: str, label: str) -> bool:
    """Whether the label's words stand in the rationale, or the value of a label that is an equation."""
    if len(label) > _LONGEST_LABEL:
        return label.casefold() in rationale.casefold()
    value = evaluate_equation(label)
    if value is not None:
        numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", rationale)
        return any(float(number.replace(",", "")) == value for number in numbers)
    words = re.escape(parsing.plain(label))
    return bool(words) and re.search(rf"(?<!\w){words}(?!\w)", rationale.casefold()) is not None


def label_not_named(rationale: str, label: str) -> bool:
    """Whether the rationale does not name the label, which would leak it."""
    return not label_named(rationale, label)


# Checks: (rationale, label) -> whether the rationale passes.
CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "arithmetic": arithmetic_holds,
    "label-named": label_named,
    "label-not-named": label_not_named,
}

# Why a sample has no vote, in words; a check's name stands for its failure.
PROBLEMS = {
    "unparsed": "cannot be parsed",
    "cut": "cut by the token limit (--max-tokens)",
    "refused": "refused",
    "broken": "broken off by the endpoint (another --seed asks again)",
    "empty": "empty (--max-tokens, where the model thinks first)",
    "unknown_label": "names none of the possible labels",
    "arithmetic": "calculates wrongly",
    "label-named": "does not name the label in the rationale",
    "label-not-named": "names the label in the rationale",
}


def read_sample(
    line: Mapping[str, Any],
    options: Sequence[str] | None,
    label_text: Callable[[str], str],
    checks: Sequence[str] = (),
    rationale_from: str = "answer",
) -> Sample:
    """A line of the store as a sample, whose rationale has to pass the `checks`.

    `options` are the labels that the row can have, None for any; `label_text` gives a label as it stands in an
    answer, see `Template.label_text`. The rationale is that of the answer, or with `rationale_from` "thinking"
    what the model thought before it, where it did.
    """
    text = parsing.well_formed(line["text"])
    parts = thinking.split(text, line["parser"])
    thought = parsing.well_formed(line.get("thinking") or "") or parts.thinking
    answer = thinking.ended(parsing.cut(parts.answer, line["sampling"].get("stop", ())))
    why = trouble(line.get("finish"), answer)
    if why in ("refused", "broken", "empty"):
        return Sample(text, None, None, why)
    label, rationale = parsing.parser(line["parser"])(answer)
    if label is None and options and why != "cut":
        label = meant(answer, options)  # the answer is the label, and no more
    if why == "cut" and (label is None or answer.rstrip().endswith(label)):
        return Sample(text, None, None, "cut")  # more of the label may have followed
    if label is None:
        return Sample(text, None, None, "unparsed")
    written, label = label, meant(label, options) if options else label
    if label is None:
        return Sample(text, None, None, "unknown_label", written=written)
    if rationale_from == "thinking":
        rationale = thought.strip() or rationale
    rationale = thinking.harmless(rationale) if rationale else None
    failed = next((name for name in checks if not CHECKS[name](rationale or "", label)), "")
    probs = None
    if options and line.get("tokens"):
        probs = _agreeing([Token(*token) for token in line["tokens"]], label, options, label_text)
    return Sample(text, label, rationale, failed, probs, written)


def _agreeing(
    tokens: Sequence[Token], label: str, options: Sequence[str], label_text: Callable[[str], str]
) -> tuple[float, ...] | None:
    """The probabilities of the options, where the label has the highest."""
    probs = label_probabilities(tokens, [label_text(option) for option in options])
    return probs if probs and probs[options.index(label)] >= max(probs) - 1e-9 else None


def label_probabilities(tokens: Sequence[Token], texts: Sequence[str]) -> tuple[float, ...] | None:
    """P(label) of each text, from the answer's tokens and their alternatives.

    Follows the answer token by token. At each token, the text that fits what was written before it and
    continues as one of the alternatives gets the probability of that alternative times that of what was written
    before; the texts that continue as the token itself go on. What the alternatives do not list counts as 0,
    and the sum is normalized to 1. A token that is less likely than all of its alternatives says nothing of
    the texts that none of these begins: they may be as likely. The tokens are those from the first character of
    the label on.

    Returns:
      One probability per text, in order; None when the answer is none of them, for log-probabilities that are
      not those of a distribution, without alternatives to an answer that is not certain or likelier than they
      are, and where one may be several texts: another tokenization of the same answer would give each its own.
    """
    texts = [as_bytes(text) for text in texts]
    masses, unclear = [0.0] * len(texts), 0.0
    candidates = set(range(len(texts)))
    written, reached, alone = b"", 1.0, True
    for token in tokens:
        own = as_bytes(token.text)
        if not _LEAST <= token.logprob <= _MOST:
            return None
        staying = _fitting(candidates, texts, written + own)
        if not staying:
            return None
        others = {as_bytes(text): p for text, p in token.alternatives.items() if text and _LEAST <= p <= _MOST}
        if len(candidates) > 1 and others and own not in others and token.logprob < min(others.values()):
            return None
        others.pop(own, None)
        alone = alone and not others
        for other, logprob in others.items():
            mass = reached * math.exp(min(logprob, 0.0))
            fitting = _fitting(candidates, texts, written + other)
            if len(fitting) > 1:
                fitting = _without_longer(fitting, texts, written, other, (own, *others))
            for i in fitting:
                masses[i] += mass / len(fitting)
            unclear += mass * (len(fitting) > 1)
        reached *= math.exp(min(token.logprob, 0.0))
        written, candidates = written + own, staying
        if len(candidates) == 1:
            break
    ended = {i for i in candidates if written.startswith(texts[i])} or candidates
    for i in ended:
        masses[i] += reached / len(ended)
    total = sum(masses)
    known = total > 0.0 and unclear <= _UNCLEAR * total and not (alone and reached < _CERTAIN)
    return tuple(mass / total for mass in masses) if known else None


def as_bytes(text: str) -> bytes:
    """UTF-8, in which a token that is part of a character has its own bytes; see `messages.Token`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _without_longer(
    fitting: set[int], texts: Sequence[bytes], written: bytes, token: bytes, listed: Sequence[bytes]
) -> set[int]:
    """The texts of `fitting` that begin with no longer `listed` token: a tokenizer would take that one."""
    longer = [written + other for other in listed if other.startswith(token) and other != token]
    return fitting.difference(*(_fitting(fitting, texts, begun) for begun in longer))


def _fitting(candidates: set[int], texts: Sequence[bytes], written: bytes) -> set[int]:
    """The texts that an answer which begins as `written` can be; of those it goes beyond, the longest.

    A number that goes on is another number.
    """
    fitting = {i for i in candidates if texts[i].startswith(written) or written.startswith(texts[i])}
    fitting -= {i for i in fitting if texts[i][-1:].isdigit() and written[len(texts[i]) :][:1].isdigit()}
    return {
        i
        for i in fitting
        if len(written) <= len(texts[i])
        or not any(texts[j] != texts[i] and texts[j].startswith(texts[i]) for j in fitting)
    }


def judge(
    example: Example,
    samples: Sequence[Sample],
    options: Sequence[str] | None,
    same: Callable[[str, str], bool] = str.__eq__,
) -> Verdict:
    """Self-consistency (Wang et al. 2022, arXiv:2203.11171): the label of most samples, and its rationales.

    Of labels with equally many votes the one that came first wins. `label_probs` is the mean of the
    samples' own probabilities, or of their votes where they have none: an estimate of the label's
    probability, marginalized over rationales. `options` are the labels that the row can have; `same` says
    whether two labels are one answer, such as two equations of one value.
    """
    voting = [sample for sample in samples if not sample.problem]
    votes: dict[str, list[Sample]] = {}
    for sample in voting:
        label = next((label for label in votes if same(label, sample.label)), sample.label)
        votes.setdefault(label, []).append(sample)
    if not voting:
        return Verdict(example, tuple(samples), None, ())
    label = max(votes, key=lambda name: len(votes[name]))
    reasons = tuple(dict.fromkeys(sample.rationale for sample in votes[label] if sample.rationale))
    probs = None
    if options:
        rows = [s.probs or tuple(float(option == s.label) for option in options) for s in voting]
        if len(voting) > 1 or voting[0].probs:
            probs = tuple(math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
            probs = probs if probs[options.index(label)] >= max(probs) - 1e-9 else None
    judged = dataclasses.replace(
        example, teacher_label=label, rationale=next(iter(reasons), None), label_probs=probs
    )
    return Verdict(judged, tuple(samples), len(votes[label]) / len(voting), reasons)
