"""Accuracy over training examples, one line a method and a thin one for each rule, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from distill_jax.evaluation.significance import mean_interval

# (method, comparison) -> name, color, line, marker.
STYLES = {
    ("step_by_step", "equal steps"): ("distilling step-by-step", "#1f6feb", "-", "o"),
    ("standard", "equal steps"): ("standard, equal steps", "#d1572c", "-", "s"),
    ("standard", "equal compute"): ("standard, equal compute", "#d1572c", "--", "^"),
    ("teacher", "no student"): ("teacher", "#1a7f37", "-", ""),
    ("joined", "no student"): ("train's pairs joined up", "#8250df", ":", ""),
    ("lookup", "no student"): ("lookup of train's pairs", "#57606a", "-.", ""),
    ("words", "no student"): ("regression on words", "#8c959f", "--", ""),
    ("wording", "no student"): ("floor: the wording alone", "#57606a", ":", ""),
    ("majority", "no student"): ("majority class", "#afb8c1", "-", ""),
}


def curves(runs: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[int, list[float]]]:
    """(method, comparison) -> training examples -> accuracy of each seed."""
    grouped: dict[tuple[str, str], dict[int, list[float]]] = {}
    for run in runs:
        curve = grouped.setdefault((run["method"], run["comparison"]), {})
        curve.setdefault(run["train_examples"], []).append(run["accuracy"])
    return grouped


def accuracy_figure(runs: Sequence[Mapping[str, Any]]) -> str:
    """SVG of the curves: means over seeds, with bands of Student's 95% interval."""
    with rc_context({"svg.fonttype": "none", "font.size": 11, "svg.hashsalt": "distill_jax"}):
        figure = Figure(figsize=(8.6, 4.4), layout="tight")
        axes = figure.subplots()
        grouped = curves(runs)
        for key in (key for key in STYLES if key in grouped):
            curve, (name, color, line, marker) = grouped[key], STYLES[key]
            sizes = sorted(curve)
            accuracies = [np.array(curve[size]) for size in sizes]
            axes.plot(sizes, [a.mean() for a in accuracies], line, color=color, marker=marker, label=name)
            if marker and len(accuracies[0]) > 1:
                low, high = zip(*map(mean_interval, accuracies), strict=True)
                axes.fill_between(sizes, low, high, color=color, alpha=0.12, linewidth=0)
        axes.set_xscale("log", base=2)
        sizes = sorted({run["train_examples"] for run in runs})
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xlabel("training examples")
        axes.set_ylabel("label accuracy on the test split")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
