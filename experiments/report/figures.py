"""The figures of a report, drawn by matplotlib: as PNG, as SVG, and as inline SVG that follows the theme."""

import dataclasses
import io
import re
from collections.abc import Callable, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator, NullLocator

from distill_jax.evaluation.html import THEMES, escape, variables
from distill_jax.experiments.report.cells import Cells
from distill_jax.experiments.report.runs import RULES, TEACHER, Run, amount
from distill_jax.experiments.report.tables import Figure
from distill_jax.scoring.calibration import reliability

# Colors of the arms by theme, first to last. A test computes their contrast, 3 (WCAG 2.2, 1.4.11).
SERIES = {
    "light": "#1f6feb #c4501b #1a7f37 #8250df #0b7285 #bf3989 #7d4e00 #57636f".split(),
    "dark": "#58a6ff #f0883e #3fb950 #bc8cff #39c5cf #f778ba #d29922 #aab4c0".split(),
}
NAMED = {theme: {f"series-{n}": color for n, color in enumerate(colors)} for theme, colors in SERIES.items()}
STYLE = variables(NAMED)  # for the page of these figures
LIGHT = THEMES["light"]
WIDTH, HEIGHT = 5.2, 3.9  # inches: a phone shows the letters of this width nearly in their own size
_STROKES = ("-", "--", "-.", ":")
_MARKS = "os^Dv<>P"
_RULE_STROKES = {TEACHER: "-", "majority": (0, (1, 1)), "wording": ":", "words": "--", "lookup": "-."}
_RULE_STROKES |= {"joined": (0, (5, 1, 1, 1, 1, 1)), "constant": (0, (1, 3))}
_SETTINGS = {
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "distill_jax",
    "text.color": LIGHT["text"],
    "axes.labelcolor": LIGHT["text"],
    "axes.edgecolor": LIGHT["faint"],
    "xtick.color": LIGHT["faint"],
    "ytick.color": LIGHT["faint"],
    "grid.color": LIGHT["rule"],
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve of a figure: its name, the place of its color and stroke, points, and a band around them."""

    name: str
    place: int
    x: Sequence[float]
    y: Sequence[float]
    band: Sequence[tuple[float, float] | None] = ()
    marked: bool = True


def color(place: int) -> str:
    """The color of an arm in the light theme."""
    return SERIES["light"][place % len(SERIES["light"])]


def render(name: str, title: str, draw: Callable[[Axes], None]) -> tuple[str, bytes, str]:
    """A drawing as SVG, PNG, and the SVG of the page: without a size or a color of its own."""
    with rc_context(_SETTINGS):
        canvas = Canvas(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = canvas.subplots()
        axes.grid(alpha=0.6)
        axes.set_axisbelow(True)
        draw(axes)
        handles, _ = axes.get_legend_handles_labels()
        if handles:
            canvas.set_figheight(HEIGHT + 0.2 * len(handles))
            canvas.legend(frameon=False, loc="outside lower left", fontsize=10, ncols=1)
        text, image = io.StringIO(), io.BytesIO()
        canvas.savefig(text, format="svg", metadata={"Date": None})
        canvas.savefig(image, format="png", dpi=200, metadata={"Software": None})
    svg = text.getvalue()
    return svg, image.getvalue(), inline(svg, name, title)


def inline(svg: str, name: str, title: str) -> str:
    """An SVG of matplotlib as part of a page: ids of its own, colors of the theme, a text alternative."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    for variable, value in (LIGHT | NAMED["light"]).items():
        svg = svg.replace(value, f"var(--{variable})")
    box = re.search(r'viewBox="([^"]+)"', svg)[1]
    head = f'<svg viewBox="{box}" role="img" aria-labelledby="{name}-title">'
    return re.sub(
        r"<svg[^>]*>", f'{head}<title id="{name}-title">{escape(title)}</title>', svg, count=1
    ).strip()


def _draw_line(axes: Axes, line: Line) -> None:
    shade = color(line.place)
    mark = _MARKS[line.place % len(_MARKS)] if line.marked else ""
    stroke = _STROKES[line.place // 8 % len(_STROKES)]
    axes.plot(line.x, line.y, stroke, color=shade, marker=mark, markersize=5, label=line.name)
    known = [(x, *ends) for x, ends in zip(line.x, line.band, strict=False) if ends is not None]
    if known:
        axes.fill_between(*zip(*known, strict=True), color=shade, alpha=0.14, linewidth=0)
        for x, low, high in known:
            axes.plot([x, x], [low, high], "-", color=shade, linewidth=0.9)


@dataclasses.dataclass(frozen=True)
class Place:
    """A place on the axis of a figure of accuracies: its number and name, and whose runs are there."""

    x: float
    name: str
    model: str
    size: float


def _accuracy(cells: Cells, name: str, title: str, places: Sequence[Place], label: str) -> Figure:
    """Accuracy of each arm over some places; a rule is a line without marks."""
    lines, rows = [], []
    for number, arm in enumerate(cells.arms):
        own = [(place, runs) for place in places if (runs := cells.of(arm, place.model, place.size))]
        if own:
            means, bands = [cells.mean(runs) for _, runs in own], [cells.interval(runs) for _, runs in own]
            lines.append(Line(arm, number, [place.x for place, _ in own], means, bands))
            for (place, _), mean, band in zip(own, means, bands, strict=True):
                rows.append([arm, place.name, mean, *(band or ("", ""))])
    rules = {}
    for rule in cells.rule_names:
        known = [(p, value) for p in places if (value := cells.rule(rule, p.size)) is not None]
        if known:
            rules[rule] = [(place.x, value) for place, value in known]
            rows += [[RULES[rule], place.name, value, "", ""] for place, value in known]

    def draw(axes: Axes) -> None:
        for line in lines:
            _draw_line(axes, line)
        for rule, points in rules.items():
            shade = LIGHT["text"] if rule == TEACHER else LIGHT["faint"]
            stroke = _RULE_STROKES[rule]
            axes.plot(*zip(*points, strict=True), linestyle=stroke, color=shade, label=RULES[rule])
        axes.set_xscale("log", base=2)
        axes.set_xticks([place.x for place in places], [place.name for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(label)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0.0), min(high, 1.02))
        _accuracy_axis(axes)

    caption = "Bands are 95% intervals of the mean over seeds, of one seed over the test rows."
    columns = ["line", label, "accuracy", "low", "high"]
    return Figure(name, title, caption, *render(name, title, draw), columns, rows)


def _accuracy_axis(axes: Axes) -> None:
    axes.set_ylabel("label accuracy, test rows")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")


def by_data(cells: Cells) -> list[Figure]:
    """Accuracy against the training rows, a figure for each network; none where there is one size only."""
    found = []
    for number, model in enumerate(cells.models, 1):
        sizes = [size for size in cells.sizes if size and any(cells.of(arm, model, size) for arm in cells.arms)]
        if len(sizes) > 1:
            name = f"accuracy-by-data-{number}" if len(cells.models) > 1 else "accuracy-by-data"
            title = f"Accuracy against the {cells.axis}, network {model}"
            places = [Place(size, cells.size_name(size), model, size) for size in sizes]
            found.append(_accuracy(cells, name, title, places, cells.axis))
    return found


def by_model(cells: Cells) -> list[Figure]:
    """Accuracy against the number of parameters, for each number of training rows with two networks or more."""
    found = []
    for number, size in enumerate(cells.sizes, 1):
        models = [model for model in cells.models if any(cells.of(arm, model, size) for arm in cells.arms)]
        models = [model for model in models if model in cells.parameters]
        if len(models) > 1:
            name = f"accuracy-by-model-{number}" if len(cells.sizes) > 1 else "accuracy-by-model"
            title = f"Accuracy against the size of the network, {cells.size_name(size)} of training"
            counts = {model: cells.parameters[model] for model in models}
            places = [Place(count, amount(count), model, size) for model, count in counts.items()]
            found.append(_accuracy(cells, name, title, places, "parameters"))
    return found


def training_curves(cells: Cells) -> list[Figure]:
    """Training loss, and accuracy on validation where it was measured, of the main cell's runs."""
    found = []
    for name, field, label in (
        ("training-loss", "train/loss", "training loss"),
        ("validation-accuracy", "validation/label_accuracy", "accuracy on validation"),
    ):
        lines, rows = [], []
        for place, arm in enumerate(cells.arms):
            for run in cells.of(arm, *cells.main):
                points = [(line["step"], line[field]) for line in run.curve if field in line]
                if points:
                    shown = arm if all(line.place != place for line in lines) else "_"  # in the legend once
                    lines.append(Line(shown, place, *zip(*points, strict=True), marked=len(points) < 2))
                    rows += [[arm, run.seed, step, value] for step, value in points]
        if not lines:
            continue

        def draw(axes: Axes, lines: Sequence[Line] = lines, label: str = label) -> None:
            for line in lines:
                _draw_line(axes, line)
            axes.set_xlabel("step")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))

        title = f"{label[0].upper()}{label[1:]} by step"
        caption = "A line for each seed." + " Methods have different losses." * (name == "training-loss")
        columns = ["method", "seed", "step", label]
        found.append(Figure(name, title, caption, *render(name, title, draw), columns, rows))
    return found


def calibration(confident: dict[str, tuple[list[float], list[bool]]], arms: Sequence[str]) -> Figure:
    """Accuracy over stated confidence; `confident` has confidences and whether right, by arm."""
    bins = {arm: reliability(*both) for arm, both in confident.items()}

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=LIGHT["faint"], label="as right as stated")
        for arm, points in bins.items():
            _, stated, right = zip(*points, strict=True)
            _draw_line(axes, Line(arm, arms.index(arm), stated, right))
        axes.set_xlabel("mean confidence of a bin")
        axes.set_ylabel("accuracy of the bin")

    rows = [[arm, stated, right, count] for arm, points in bins.items() for count, stated, right in points]
    title = "Calibration: accuracy over the confidence that the student states"
    caption = "15 equally wide bins; above the dotted line a student is right more often than it says."
    columns = ["method", "confidence", "accuracy", "rows"]
    return Figure("calibration", title, caption, *render("calibration", title, draw), columns, rows)


def cost(cells: Cells) -> Figure | None:
    """Accuracy over FLOPs of training, or device-hours; None where neither is known of two cells."""
    units = ("flops", "FLOPs of training", 1.0), ("device_seconds", "device-hours", 3600.0)
    for field, label, scale in units:
        lines, rows = [], []
        for place, arm in enumerate(cells.arms):
            points = []
            for model in cells.models:
                for size in cells.sizes:
                    runs: list[Run] = cells.of(arm, model, size)
                    spent = [getattr(run, field) for run in runs if getattr(run, field)]
                    if spent:
                        points.append((sum(spent) / len(spent) / scale, cells.mean(runs), model, size))
            if points:
                points.sort()
                lines.append(Line(arm, place, [p[0] for p in points], [p[1] for p in points]))
                rows += [[arm, model, cells.size_name(size), x, y] for x, y, model, size in points]
        if len(rows) < 2:
            continue

        def draw(axes: Axes, lines: Sequence[Line] = lines, label: str = label) -> None:
            for line in lines:
                _draw_line(axes, line)
            axes.set_xscale("log")
            axes.set_xlabel(label)
            _accuracy_axis(axes)

        title = f"Accuracy against {label}"
        columns = ["method", "network", cells.axis, label, "accuracy"]
        caption = "A point for each network and number of training rows; means over seeds, of training alone."
        return Figure("cost", title, caption, *render("cost", title, draw), columns, rows)
    return None
