"""Metric functions with SeqIO's signature: (targets, predictions) -> name -> value, all from 0 to 1."""

from collections.abc import Sequence

from distill_jax.scoring.equations import evaluate_equation


def accuracy(targets: Sequence[str], predictions: Sequence[str | None]) -> dict[str, float]:
    """Share of predictions that are the target, but for white space around them."""
    right = [is_same_text(t, p) for t, p in zip(targets, predictions, strict=True)]
    return {"accuracy": sum(right) / max(len(right), 1)}


def equation_accuracy(targets: Sequence[str], predictions: Sequence[str | None]) -> dict[str, float]:
    """Share of predictions with the value of the target; one without a value is wrong.

    Values are compared as the paper's reference code does, as floats with `==`.
    """
    right = [is_same_value(t, p) for t, p in zip(targets, predictions, strict=True)]
    return {"accuracy": sum(right) / max(len(right), 1)}


def is_same_text(target: str, prediction: str | None) -> bool:
    """Whether two texts are equal but for white space around them."""
    return prediction is not None and target.strip() == prediction.strip()


def is_same_value(target: str, prediction: str | None) -> bool:
    """Whether two arithmetic expressions have the same value."""
    value = None if prediction is None else evaluate_equation(prediction)
    return value is not None and value == evaluate_equation(target)


def rouge_l(targets: Sequence[str], predictions: Sequence[str | None]) -> dict[str, float]:
    """Mean F1 of the longest common subsequence of words (Lin 2004), by `rouge_score`."""
    from rouge_score import rouge_scorer  # pulls in nltk: a second that few callers need

    scorer = rouge_scorer.RougeScorer(["rougeL"])
    scores = [scorer.score(t, p or "")["rougeL"].fmeasure for t, p in zip(targets, predictions, strict=True)]
    return {"rougeL": sum(scores) / max(len(scores), 1)}
