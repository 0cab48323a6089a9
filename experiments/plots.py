"""Accuracy over training examples, one line a method, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

# (method, comparison) -> name, color, line, marker.
STYLES = {
    ("step_by_step", "equal steps"): ("distilling step-by-step", "#1f6feb", "-", "o"),
    ("standard", "equal steps"): ("standard, equal steps", "#d1572c", "-", "s"),
    ("standard", "equal compute"): ("standard, equal compute", "#d1572c", "--", "^"),
}


def curves(runs: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[int, list[float]]]:
    """(method, comparison) -> training examples -> accuracy of each seed."""
    grouped: dict[tuple[str, str], dict[int, list[float]]] = {}
    for run in runs:
        curve = grouped.setdefault((run["method"], run["comparison"]), {})
        curve.setdefault(run["train_examples"], []).append(run["accuracy"])
    return grouped


def accuracy_figure(runs: Sequence[Mapping[str, Any]]) -> str:
    """SVG of the curves: means over seeds, with bands from the lowest to the highest."""
    with rc_context({"svg.fonttype": "none", "font.size": 11, "svg.hashsalt": "distill_jax"}):
        figure = Figure(figsize=(7.2, 4.2), layout="tight")
        axes = figure.subplots()
        for key, curve in curves(runs).items():
            name, color, line, marker = STYLES[key]
            sizes = sorted(curve)
            accuracies = [np.array(curve[size]) for size in sizes]
            axes.plot(sizes, [a.mean() for a in accuracies], line, color=color, marker=marker, label=name)
            if len(accuracies[0]) > 1:
                low, high = [a.min() for a in accuracies], [a.max() for a in accuracies]
                axes.fill_between(sizes, low, high, color=color, alpha=0.12, linewidth=0)
        axes.set_xscale("log", base=2)
        sizes = sorted({run["train_examples"] for run in runs})
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xlabel("training examples")
        axes.set_ylabel("label accuracy on the test split")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
