"""The teacher's quality as lines for a terminal and as an HTML page."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from distill_jax import files
from distill_jax.evaluation import html
from distill_jax.teachers import parsing
from distill_jax.teachers.quality import PROBLEMS
from distill_jax.teachers.secrets import redact

COUNTS = {"rows": "rows", "with completions": "annotated", "with an answer": "answered"}
COUNTS |= {"with label_probs": "with_label_probs", "samples": "samples"}
TITLES = {
    "right": "Answers that agree with the reference label",
    "wrong": "Answers that do not agree with the reference label",
    "answered": "Answers (no reference label to compare with)",
    "unanswered": "Rows without an answer",
}


def figures_table(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of each figure."""
    rows = [(name, f"{summary[field]:,}") for name, field in COUNTS.items()]
    accuracy = summary["accuracy"]
    if accuracy:
        share = f"{accuracy['value']:.4f} on {accuracy['rows']:,} rows"
        interval = f"95% interval {accuracy['low']:.4f} to {accuracy['high']:.4f}"
        rows.append(("accuracy against reference labels", f"{share}, {interval}"))
        written = accuracy["first_sample_as_written"]
        if written != accuracy["value"]:
            rows.append(("of first samples, labels as written", f"{written:.4f}"))
    for name, share in summary["problems"].items():
        rows.append((f"samples: {PROBLEMS[name]}", f"{share:.2%}"))
    if summary["without_logprobs"]:
        rows.append(("samples: without log-probabilities", f"{summary['without_logprobs']:,}"))
    if summary["self_consistency"] is not None and summary["samples"] > summary["annotated"]:
        rows.append(("votes for the label, mean", f"{summary['self_consistency']:.3f}"))
    words = summary["rationale_words"]
    if words:
        spread = f"mean {words['mean']:.1f}, median {words['median']}, 95% have at most {words['p95']}"
        rows.append(("words of a rationale", spread))
    if summary["reference_of_no_class"]:
        rows.append(("reference labels that are no class", f"{summary['reference_of_no_class']:,}"))
    if summary["repeated"]:
        rows.append(("rows that repeat another, paid once", f"{summary['repeated']:,}"))
    rows += [(name, f"{summary[name]:,}") for name in ("requests", "tokens")]
    rows.append(("cost", "not known" if summary["usd"] is None else f"{summary['usd']:.4f} USD"))
    return rows


def write_report(path: str, title: str, summary: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Writes the page to `path`, and the figures beside it as JSON.

    Raises:
      UserError: when they cannot be written.
    """
    parts = [html.table(["figure", "value"], figures_table(summary)), html.heading("Settings")]
    parts.append(html.table(["setting", "value"], list(settings.items())))
    for kind, rows in summary["shown"].items():
        parts.append(html.heading(TITLES[kind]))
        cells = [(r["id"], r["input"], r["reference"] or "", r["teacher"] or "", r["completion"]) for r in rows]
        parts.append(html.table(["row", "input", "reference", "teacher", "completion"], cells))
    figures = json.dumps({"settings": dict(settings), **summary}, indent=2, ensure_ascii=False)
    # First the figures: they stay where the page cannot be written.
    files.write_text(pathlib.Path(path).with_suffix(".json"), parsing.well_formed(redact(figures)) + "\n")
    files.write_text(path, parsing.well_formed(redact(html.page(title, parts))))
