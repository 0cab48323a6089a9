"""Metric functions with SeqIO's signature: (targets, predictions) -> name -> value, all from 0 to 1.

Over no row there is no mean: the result is empty, so that nobody takes 0.0 for a measurement.
"""

import math
import re
import types
import unicodedata
from collections.abc import Callable, Sequence

from distill_jax.data.labels import same
from distill_jax.scoring.equations import evaluate_equation

# Scripts that put no spaces between words: Thai, Lao, Myanmar, Khmer, kana and Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)


def accuracy(targets: Sequence[str], predictions: Sequence[str | None]) -> dict[str, float]:
    """Share of predictions that are the target, but for white space around them."""
    return _mean("accuracy", is_same_text, targets, predictions)


def equation_accuracy(targets: Sequence[str], predictions: Sequence[str | None]) -> dict[str, float]:
    """Share of predictions with the text or the value of the target."""
    return _mean("accuracy", is_same_value, targets, predictions)


def rouge_l(targets: Sequence[str], predictions: Sequence[str | None]) -> dict[str, float]:
    """Mean F1 of the longest common subsequence of words (Lin 2004), by `rouge_score`; see `words`.

    A text with itself scores 1, also where it has no words.
    """
    from rouge_score import rouge_scorer  # pulls in nltk: a second that few callers need

    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=types.SimpleNamespace(tokenize=words))

    def score(target: str, prediction: str | None) -> float:
        if is_same_text(target, prediction):
            return 1.0
        return scorer.score(target, prediction or "")["rougeL"].fmeasure

    return _mean("rougeL", score, targets, predictions)


def _mean(
    name: str, score: Callable[[str, str | None], float], targets: Sequence[str], predictions: Sequence
) -> dict[str, float]:
    scores = [score(target, prediction) for target, prediction in zip(targets, predictions, strict=True)]
    return {name: sum(scores) / len(scores)} if scores else {}


def is_same_text(target: str, prediction: str | None) -> bool:
    """Whether two texts are equal but for white space around them and Unicode's composition; `labels.same`."""
    return same(target, prediction)


def is_same_value(target: str, prediction: str | None) -> bool:
    """Whether two arithmetic expressions have the same text or, to the 9th digit, the same value.

    The paper's reference code compares floats with `==`, so that `0.1 + 0.2` is not `0.3` there.
    """
    if prediction is None or is_same_text(target, prediction):
        return prediction is not None
    values = evaluate_equation(target), evaluate_equation(prediction)
    return None not in values and math.isclose(*values, rel_tol=1e-9, abs_tol=1e-12)


def words(text: str) -> list[str]:
    """Lower-case words: runs of letters, their marks and digits, of any script.

    Where a script has no spaces between words, each letter is one. Of a text in ASCII these are the tokens of
    `rouge_score`'s own tokenizer, which drops every other letter.
    """
    found: list[str] = []
    continues = False
    for char in unicodedata.normalize("NFC", text.lower()):
        kind = unicodedata.category(char)[0]
        if kind not in "LMN":
            continues = False
        elif found and (kind == "M" or (continues and not _UNSPACED.match(char))):
            found[-1] += char
        else:
            found.append(char)
            continues = not _UNSPACED.match(char)
    return found
