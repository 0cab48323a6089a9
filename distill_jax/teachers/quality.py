"""What the teacher's samples of a row say together, and whether to believe it."""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill_jax.data.schema import Example
from distill_jax.scoring.equations import evaluate_equation
from distill_jax.teachers import parsing
from distill_jax.teachers.messages import Token

_SIGN = r"-+*/x×÷()\d.,$%\s"
# The number is only looked at, so that it can begin the next equality of a chain; where a calculation goes
# on after it (`3 + 4 = 10 - 3`) it is not what the left side equals.
_EQUALITY = re.compile(
    rf"(?<![{_SIGN}])([{_SIGN}]+)=(?=\s*((?>-?\$?\d[\d,]*(?:\.\d+)?%?))(?!\s*[-+*/x×÷]\s*[\d(]))",
    re.IGNORECASE,
)
_READ = str.maketrans({"×": "*", "÷": "/", "x": "*", "X": "*", "$": None, ",": None, "%": "/100"})


@dataclasses.dataclass(frozen=True)
class Sample:
    """A completion, read.

    Attributes:
      text: as it came.
      label: None where the text could not be read, or names none of the row's possible labels.
      rationale: None likewise.
      problem: why it has no vote: `unparsed`, `unknown_label`, or a check's name; "" where it has one.
      probs: the teacher's probability of each possible label, from log-probabilities; None without.
      written: the label as it stands in the text; None where the text could not be read.
    """

    text: str
    label: str | None
    rationale: str | None
    problem: str = ""
    probs: tuple[float, ...] | None = None
    written: str | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A row's samples together.

    Attributes:
      example: with teacher_label, rationale and label_probs.
      samples: all, in order.
      agreement: share of the votes that the label has; None without votes.
      rationales: of the samples that voted for the label.
    """

    example: Example
    samples: tuple[Sample, ...]
    agreement: float | None
    rationales: tuple[str, ...]


# Checks: (rationale, label) -> whether it passes.


def arithmetic_holds(rationale: str, label: str = "") -> bool:
    """Whether every `a + b = c` in it is right, to the digits that are written."""
    del label
    return all(_holds(left, right) for left, right in _EQUALITY.findall(rationale))


def _holds(left: str, right: str) -> bool:
    """Whether an equality is right; one that is no calculation is."""
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
    value = evaluate_equation(label)
    if value is not None:
        numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", rationale)
        return any(float(number.replace(",", "")) == value for number in numbers)
    words = re.escape(parsing.plain(label))
    return bool(words) and re.search(rf"(?<!\w){words}(?!\w)", rationale.casefold()) is not None


def label_not_named(rationale: str, label: str) -> bool:
    """Whether the rationale keeps the label to itself: where it would give the answer away."""
    return not label_named(rationale, label)


CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "arithmetic": arithmetic_holds,
    "label-named": label_named,
    "label-not-named": label_not_named,
}


def canonical(label: str, options: Sequence[str]) -> str | None:
    """The option that a label means, case and marks around it aside; None for none."""
    if label in options:
        return label
    return next((option for option in options if parsing.plain(option) == parsing.plain(label)), None)


def read_sample(
    line: Mapping[str, Any],
    options: Sequence[str] | None,
    label_text: Callable[[str], str],
    checks: Sequence[str] = (),
) -> Sample:
    """A stored completion as a sample.

    Args:
      line: of the store.
      options: the labels the row can have; None where that is open.
      label_text: how a label stands in an answer, see `Template.label_text`.
      checks: names in `CHECKS` that the rationale has to pass.
    """
    text = line["text"]
    label, rationale = parsing.parser(line["parser"])(parsing.cut(text, line["sampling"].get("stop", ())))
    if label is None:
        return Sample(text, None, None, "unparsed")
    written = label
    if options:
        label = canonical(label, options)
        if label is None:
            return Sample(text, None, None, "unknown_label", written=written)
    failed = next((name for name in checks if not CHECKS[name](rationale, label)), "")
    probs = None
    if options and line.get("tokens"):
        tokens = [Token(*token) for token in line["tokens"]]
        probs = label_probabilities(tokens, [label_text(option) for option in options])
    return Sample(text, label, rationale, failed, probs, written)


def label_probabilities(tokens: Sequence[Token], texts: Sequence[str]) -> tuple[float, ...] | None:
    """P(label) of each text, from the answer's tokens and their alternatives.

    Follows the answer token by token. At each, every text that still fits what has been written and goes
    on as one of the alternatives, and not as the token itself, gets the probability of that alternative
    times that of what came before; the texts that go on as the token share on. What the alternatives do
    not list counts as 0, and the sum is made 1.

    Args:
      tokens: from the answer's first character on.
      texts: the labels as they would stand there.

    Returns:
      A probability each, in order; None when the answer is none of them.
    """
    masses = [0.0] * len(texts)
    left = set(range(len(texts)))
    written, reached = "", 1.0
    for token in tokens:
        prefix = written
        written += token.text
        staying = {i for i in left if _fits(texts[i], written)}
        if not staying:
            return None
        for text, logprob in token.alternatives.items():
            if text and text != token.text:
                hit = [i for i in left - staying if _fits(texts[i], prefix + text)]
                for i in hit:
                    masses[i] += reached * math.exp(logprob) / len(hit)
        reached *= math.exp(token.logprob)
        left = staying
        if len(left) == 1:
            break
    for i in left:
        masses[i] += reached / len(left)
    total = sum(masses)
    return tuple(mass / total for mass in masses) if total > 0.0 else None


def _fits(text: str, written: str) -> bool:
    """Whether an answer that begins as `written` can be, or already is, `text`."""
    return text.startswith(written) or written.startswith(text)


def judge(
    example: Example,
    samples: Sequence[Sample],
    options: Sequence[str] | None,
    same: Callable[[str, str], bool] = str.__eq__,
) -> Verdict:
    """Self-consistency (Wang et al. 2022, arXiv:2203.11171): the label of most samples, and its reasons.

    Of labels with equally many votes the one that came first wins. `label_probs` is the mean of the
    samples' own probabilities, or of their votes where they have none: the estimate of the label's
    probability with the rationale summed out.

    Args:
      example: the row, without anything of the teacher.
      samples: of it.
      options: the labels it can have.
      same: whether two labels are the same answer, such as two equations of one value.
    """
    voting = [sample for sample in samples if not sample.problem]
    votes: dict[str, list[Sample]] = {}
    for sample in voting:
        label = next((label for label in votes if same(label, sample.label)), sample.label)
        votes.setdefault(label, []).append(sample)
    if not voting:
        return Verdict(example, tuple(samples), None, ())
    label = max(votes, key=lambda name: len(votes[name]))
    reasons = tuple(dict.fromkeys(sample.rationale for sample in votes[label]))
    probs = None
    if options:
        rows = [s.probs or tuple(float(option == s.label) for option in options) for s in voting]
        if len(voting) > 1 or voting[0].probs:
            probs = tuple(math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
    judged = dataclasses.replace(example, teacher_label=label, rationale=reasons[0], label_probs=probs)
    return Verdict(judged, tuple(samples), len(votes[label]) / len(voting), reasons)


def problems(samples: Sequence[Sample]) -> collections.Counter:
    """How many samples have which problem."""
    return collections.Counter(sample.problem for sample in samples if sample.problem)
