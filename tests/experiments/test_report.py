"""The report: figures by hand, the page as a reader and a screen reader have it, its files, and bad input."""

import csv
import html.parser
import json
import math
import pathlib
import re

import pytest
from stored_runs import CLASSES, ROWS, predictions, write_grid, write_lines, write_run

from distill_jax.cli import main as cli
from distill_jax.config import ReportConfig
from distill_jax.errors import UserError
from distill_jax.evaluation.html import THEMES
from distill_jax.evaluation.significance import mean_interval, paired_t_p, share_interval
from distill_jax.experiments.report import figures, inputs, sections, tables
from distill_jax.experiments.report.cells import Cells
from distill_jax.experiments.report.main import report
from distill_jax.experiments.report.runs import aligned, told_apart, with_constant


class Page(html.parser.HTMLParser):
    """The elements of a page in their order: (tag, attributes, text up to the next element)."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2] += data

    def of(self, *tags):
        return [element for element in self.elements if element[0] in tags]


def make(paths, folder, **options):
    """The report of some inputs: its text, its folder, and what it leaves out."""
    page, notes = report(ReportConfig(runs=tuple(map(str, paths)), output=str(folder), **options))
    return page.read_text(), page.parent, notes


def cells_of(*paths):
    found = inputs.read([str(path) for path in paths], "test", None)
    return Cells(with_constant(aligned(told_apart(found.runs))))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A report of 2 networks, 2 shares, 2 methods and 2 seeds."""
    folder = tmp_path_factory.mktemp("report")
    return make(write_grid(folder / "runs", widths=(8, 16)), folder / "out")


def test_the_page_is_well_formed_and_loads_nothing(whole):
    text, folder, notes = whole
    page = Page(text)
    ids = [attrs["id"] for _, attrs, _ in page.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _, _ in page.of("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    for _, attrs, _ in page.elements:
        assert not {"src", "srcset", "onclick"} & attrs.keys()
        assert set(attrs.get("aria-labelledby", "").split()) <= set(ids)
        target = attrs.get("href", "")
        if target.startswith("#"):
            assert target[1:] in ids
        elif target and not target.startswith("data:"):
            assert (folder / target).stat().st_size, target
    assert not page.of("script", "img", "iframe", "object")
    assert not re.search(r"url\(['\"]?(?!#)|@import|https?://", text.replace("http://www.w3.org/", ""))
    assert "<b>it</b>" not in text and "&lt;b&gt;it&lt;/b&gt;" in text
    assert page.of("html")[0][1] == {"lang": "en"}
    assert page.of("a")[0][1]["class"] == "skip"
    for _, attrs, _ in page.of("th"):
        assert attrs["scope"] in ("col", "row")
    assert len(page.of("caption")) == len(page.of("table"))
    assert not any("No figure" in note for note in notes)


def test_every_figure_is_there_with_its_files_and_a_text(whole):
    text, folder, _ = whole
    page = Page(text)
    names = ["accuracy-by-data-1", "accuracy-by-data-2", "accuracy-by-model-1", "accuracy-by-model-2"]
    names += ["training-loss", "validation-accuracy", "calibration", "cost"]
    assert [attrs["aria-labelledby"] for _, attrs, _ in page.of("svg")] == [f"{n}-title" for n in names]
    assert all(attrs["role"] == "img" for _, attrs, _ in page.of("svg"))
    assert len(page.of("figcaption")) == len(names) == len(page.of("figure"))
    assert sorted(p.name for p in (folder / "figures").iterdir()) == sorted(
        f"{name}.{ending}" for name in names for ending in ("csv", "png", "svg")
    )
    for name in names:
        assert (folder / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"figures/{name}.svg").read_text().startswith("<?xml")
    # No color of the light theme is left in the figures on the page, or it would stay in the dark one.
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}\b", drawn)


def test_the_figures_values_by_hand(whole):
    rows = list(csv.reader((whole[1] / "figures/accuracy-by-data-1.csv").open()))
    assert rows[0] == ["line", "share of the training rows", "accuracy", "low", "high"]
    values = {(row[0], row[1]): row[2:] for row in rows[1:]}
    low, high = mean_interval([12 / ROWS, 13 / ROWS])
    expected = [12.5 / ROWS, low, high]
    assert [*map(float, values["standard", "100%"])] == pytest.approx(expected)
    assert float(values["step_by_step", "25%"][0]) == pytest.approx(12.5 / ROWS)
    # Of rows 0, 4, 8 … the teacher says neutral, which is the label of two of these six.
    assert float(values["teacher", "25%"][0]) == pytest.approx(20 / ROWS)
    assert float(values["best constant answer", "100%"][0]) == pytest.approx(1 / 3)
    sizes = list(csv.reader((whole[1] / "figures/accuracy-by-model-1.csv").open()))
    assert {row[1] for row in sizes[1:]} == {"2.488K", "5.872K"} and len(sizes) == 1 + 4 + 2 * 2


def test_the_tables_by_hand(tmp_path):
    cells = cells_of(*write_grid(tmp_path))
    low, high = mean_interval([8 / ROWS, 9 / ROWS])
    table = {row[0]: row[1:] for row in sections.methods(cells).rows}
    assert table["standard"][0] == f"35.4% ({100 * low:.1f} to {100 * high:.1f}), 2 seeds"
    assert table["teacher"] == ["83.3%", "83.3%"]
    first, second = sections.tests(cells).rows
    p = paired_t_p([8 / ROWS, 9 / ROWS], [12 / ROWS, 13 / ROWS])
    assert p < 0.001
    assert first[:2] == ["standard", "step_by_step"] and first[3:6] == ["25%", "+16.7", "< 0.001"]
    assert second[3] == "100%" and second[6] == "Student's paired, 2 seeds"
    assert cells.main == (cells.models[0], 1.0)
    by_arm = cells.main_runs("rows")
    assert sections.classes_of(by_arm["standard"]) == sorted(CLASSES)
    # Of the 12 and 13 rows that are right, 4 and 4 are contradictions, and of two times 8 in all.
    confusion = sections.confusions(by_arm, sorted(CLASSES))[0]
    assert confusion.rows[0] == ["contradiction", "8", "8", "0", "0", "50.0%"]
    slices = {row[0]: row[1:] for row in sections.slices(by_arm, sorted(CLASSES)).rows}
    assert slices["class contradiction"] == ["8", "50.0%", "62.5%"]
    assert slices["teacher wrong"][0] == "4" and slices["teacher right"][0] == "20"
    lengths = [int(row[0]) for part, row in slices.items() if part.startswith("input")]
    assert lengths == [6, 6, 6, 6]
    stated, right = sections.confidences(by_arm)["standard"]
    assert sum(right) == 25 and set(stated) == {0.9, 0.4}
    (standard, _) = sections.calibration_errors(sections.confidences(by_arm)).rows
    assert standard[0] == "standard" and float(standard[3]) == pytest.approx(
        (25 * 0.1 + 23 * 0.4) / 48, abs=1e-3
    )
    cost = {(row[0], row[2]): row[3:] for row in sections.cost(cells).rows}
    assert cost["standard", "25%"][2:4] == ["0.1", "0"]  # four times 90 seconds; labels alone need no teacher
    assert cost["step_by_step", "25%"][3] == "250"


def test_one_seed_is_tested_over_its_rows(tmp_path):
    cells = cells_of(*write_grid(tmp_path, seeds=1, shares=(1.0,)))
    low, high = share_interval(12, ROWS)
    table = {row[0]: row[1:] for row in sections.methods(cells).rows}
    assert table["standard"] == [f"50.0% ({100 * low:.1f} to {100 * high:.1f}), 1 seed"]
    (test,) = sections.tests(cells).rows
    assert test[5:] == ["0.125", "McNemar, 24 rows of one seed"]  # four rows that one has alone: 2 / 2 ** 4
    assert cells.passing() == [
        "standard does not pass the teacher: at best 50.0%.",
        "step_by_step does not pass the teacher: at best 66.7%.",
    ]


def test_what_passes_the_teacher_is_told_with_its_interval(tmp_path):
    right = {0.5: (20, 22, 24), 1.0: (22, 22, 22)}  # the same mean, of which the second alone is sure
    paths = {
        share: [
            write_run(tmp_path / f"{share}-{seed}", "standard", share, seed, predictions(each))
            for seed, each in enumerate(counts)
        ]
        for share, counts in right.items()
    }
    low, high = mean_interval([20 / ROWS, 22 / ROWS, 1.0])
    assert low < 20 / ROWS and high > 1.0  # which no accuracy is
    reached = f"91.7% ({100 * low:.1f} to 100.0), 3 seeds"
    (line,) = cells_of(*paths[0.5]).passing()
    start = "standard reaches the teacher's 83.3% with"
    assert line == f"{start} 500 rows, not beyond the 95% interval: {reached}."
    (line,) = cells_of(*paths[1.0]).passing()
    sure = "91.7% (91.7 to 91.7), 3 seeds"
    assert line == f"standard passes the teacher's 83.3% with 1,000 rows: {sure}."
    (line,) = cells_of(*paths[0.5], *paths[1.0]).passing()
    assert line == (f"{start} 50%, not beyond the 95% interval: {reached}; passes it with 100%: {sure}.")


def test_test_rows_of_each_kind_stand_side_by_side(whole):
    text = whole[0]
    assert "All methods right: 4 of" in text and "No method right: 4 of" in text
    for words in ("teacher&#x27;s rationale", "Because of 0.", "standard: label, right", "As I see, 0."):
        assert words in text


def test_an_option_tells_runs_of_one_seed_apart(tmp_path):
    paths = [
        write_run(tmp_path / str(alpha), "step_by_step", 1.0, 0, predictions(12), alpha=alpha)
        for alpha in (0.3, 0.5)
    ]
    assert cells_of(*paths).arms == ["step_by_step, alpha 0.3", "step_by_step, alpha 0.5"]


def test_results_of_a_sweep_and_floors_are_read_and_what_failed_is_told(tmp_path):
    write_lines(tmp_path / "cells/a/test.jsonl", predictions(12))
    test = {"right": 12, "total": 24, "teacher_accuracy": 20 / 24}
    cell = {"method": "standard", "model": "tiny", "parameters": 1000, "fraction": 0.5, "seed": 0}
    results = [
        cell | {"test": test, "predictions": "cells/a/test.jsonl", "seconds": 9.0, "device": {"count": 4}},
        cell | {"test": test, "fraction": 1.0, "predictions": "cells/b/test.jsonl", "train_rows": 3},
        cell | {"seed": 1, "error": "no memory"},
    ]
    own = {"majority": {"value": 0.25}, "teacher": {"value": 0.9}}
    measured = [{"share": 0.5, "seed": 0, "train_examples": 10, "rows": 24, "accuracies": own}]
    (tmp_path / "results.json").write_text(json.dumps({"cells": results, "floors": measured}))
    rules = {"lookup": {"value": 0.25, "interval": [0.1, 0.4]}}
    floors = [{"share": share, "train_examples": 10, "rows": 24, "accuracies": rules} for share in (0.5, 1.0)]
    (tmp_path / "floors.json").write_text(json.dumps({"task": "t", "split": "test", "floors": floors}))
    text, folder, notes = make([tmp_path / "results.json", tmp_path / "floors.json"], tmp_path / "out")
    assert any("run 3 (standard tiny 0.5 1) is not shown: no memory" in note for note in notes)
    assert any("run 2 (standard tiny 1.0 0): no predictions at cells/b/test.jsonl" in note for note in notes)
    cost = (folder / "tables/cost.csv").read_text().splitlines()
    assert cost[1] == 'standard,tiny,50%,"1,000",-,0.01,0,50.0%'
    assert all(tables.html.escape(note) in text for note in notes)
    rows = (folder / "figures/accuracy-by-data.csv").read_text()
    assert "lookup in train,100%,0.25" in rows and "majority class,50%,0.25" in rows
    assert "teacher,50%,0.9" in rows and "best constant" not in rows
    assert (
        (folder / "tables/methods.md").read_text().startswith("| method | 50% | 100% |\n| --- | ---: | ---: |")
    )
    assert (
        r"\toprule" in (folder / "tables/methods.tex").read_text()
        and r"50\%" in (folder / "tables/methods.tex").read_text()
    )


def test_a_part_that_nothing_is_known_of_is_told(tmp_path):
    cell = {"method": "standard", "seed": 0, "train_examples": 10, "accuracy": 0.5, "correct": "0101"}
    (tmp_path / "results.json").write_text(json.dumps({"runs": [cell]}))
    text, _, notes = make([tmp_path / "results.json"], tmp_path / "out")
    for words in ("training rows", "size of the network", "training curves", "predictions", "cost"):
        assert any(words in note for note in notes), words
    assert not re.search("<svg", text) and "What is not shown" in text


def fails(paths, folder, **options):
    with pytest.raises(UserError) as error:
        make(paths, folder / "out", **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_runs_of_different_test_rows_are_refused(tmp_path):
    one = write_run(tmp_path / "one", "standard", 1.0, 0, predictions(12))
    fewer = write_run(tmp_path / "fewer", "step_by_step", 1.0, 0, predictions(12, rows=20))
    other = write_run(tmp_path / "other", "single_task", 1.0, 0, predictions(12, shift=1))
    told = fails([one, fewer], tmp_path)
    assert f"{one} and {fewer} are of different test rows: 4 rows are only in {one}, such as 'test-2" in told
    told = fails([one, other], tmp_path)
    assert "the label of row 'test-0' is 'entailment' and 'neutral'" in told
    cell = {"method": "standard", "test_fingerprint": "a", "test": {"right": 4, "total": 9}}
    for change, words in (
        ({"test": {"right": 4, "total": 8}}, "number of rows 9 and 8"),
        ({"test_fingerprint": "b"}, "fingerprint of the rows a and b"),
    ):
        (tmp_path / "results.json").write_text(json.dumps({"cells": [cell, cell | {"seed": 1} | change]}))
        assert words in fails([tmp_path / "results.json"], tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        *({name: value} for name in ("accuracy", "fraction") for value in (float("nan"), -1, 1.5, 10**400)),
        *(
            {"fraction": 1, name: value}
            for name in ("parameters", "steps", "train_examples")
            for value in (-1, 10**19)
        ),
        *(
            {name: value}
            for name in ("seconds", "learning_rate", "flops")
            for value in (float("inf"), -1, 10**400)
        ),
        *({"test": {"right": right, "total": 3}} for right in (-1, 4, 1.0, 10**400, float("nan"))),
        *({"test": {"right": 1, "total": 3, "teacher_accuracy": value}} for value in ("x", [1], 2)),
        *({"device": {"count": value}} for value in (0, "1", float("nan"), 10**400)),
        {"seed": 10**400},
        {"comparison": 5},
        {"method": "\ud800"},
        {"model": "\udfff"},
    ],
    ids=lambda change: str(change)[:50],
)
def test_a_value_that_cannot_be_is_one_line(tmp_path, change):
    file = tmp_path / "results.json"
    whole = {"method": "standard", "model": "mini", "fraction": 1.0, "accuracy": 0.5, "seconds": 1.0}
    file.write_text(json.dumps({"cells": [whole | change]}))
    told = fails([file], tmp_path)
    assert told.startswith(f"{file}") and "\n" not in told
    assert "run 1: " in told or "half a surrogate pair" in told


@pytest.mark.parametrize("value", [10**400, "x", [], 2, float("nan")], ids=lambda value: str(value)[:10])
def test_a_floor_that_cannot_be_is_one_line(tmp_path, value):
    floor = {"share": 1.0, "train_examples": 3, "rows": 4, "accuracies": {"majority": {"value": 0.5}}}
    run = {"method": "standard", "accuracy": 0.5, "fraction": 1.0}
    for change in ({"accuracies": {"majority": {"value": value}}}, {"share": value}):
        (tmp_path / "results.json").write_text(json.dumps({"cells": [run], "floors": [floor | change]}))
        assert "results.json, floors 1: " in fails([tmp_path / "results.json"], tmp_path)
    nothing = floor | {"accuracies": {"majority": {"value": None}}}
    (tmp_path / "results.json").write_text(json.dumps({"cells": [run], "floors": [nothing]}))
    assert "results.json: not a file of floors" in fails([tmp_path / "results.json"], tmp_path)


def test_bad_input_is_one_line(tmp_path, capsys):
    run = write_run(tmp_path / "runs/one", "standard", 1.0, 0, [])
    assert f"{tmp_path / 'runs'}: not the folder of a run, it has no run.json: give" in fails(
        [tmp_path / "runs"], tmp_path
    )
    assert fails([run], tmp_path).endswith(f"no evaluation of the split test: distill-jax eval {run}")
    write_lines(pathlib.Path(run) / "eval/test-400-rank.jsonl", predictions(12))
    generated = write_run(tmp_path / "two", "step_by_step", 1.0, 0, predictions(12))
    assert f"one way ({run}: rank; {generated}: generate): distill-jax eval {run}" in fails(
        [run, generated], tmp_path
    )
    told = fails([generated], tmp_path, label_by="rank")
    assert told.endswith(f"by rank: distill-jax eval {generated} --label-by rank")
    same = write_run(tmp_path / "same", "step_by_step", 1.0, 0, predictions(12))
    assert "the same method, network, rows and seed: give one" in fails([generated, same], tmp_path)
    file = tmp_path / "results.json"
    for text, words in (
        ("a,b", "not JSON, where the folder of a run"),
        ('{"a": 1}', "this file has an object of a"),
        ('{"cells": [{"method": "standard"}]}', "none of its 1 runs has an accuracy"),
        (
            '{"cells": [{"method": "standard", "accuracy": "x"}]}',
            "run 1: accuracy: expected a number from 0 to 1",
        ),
        ('{"cells": [{"method": "standard", "accuracy": 1, "fraction": "half"}]}', "run 1: fraction: expected"),
        ('{"cells": [{"method": "standard", "test": "a"}]}', "run 1: test: expected an object, got 'a'"),
        (
            '{"cells": [{"method": "standard", "correct": "01", "test": {"right": 2, "total": 2}}]}',
            "run 1: test says 2 of 2, correct 1 of 2",
        ),
        ('{"cells": [{"method": "standard", "correct": "x1"}]}', "run 1: correct: expected 0 or 1"),
        ('{"floors": 5}', "expected the folder of a run"),
        ('{"cells": [{"method": "standard", "test": {"total": 3}}]}', "run 1: no record of a sweep"),
        ('{"split": "test", "floors": [{"share": 1}]}', "not a file of floors"),
        ('{"floors": []}', "rules and teachers only"),
    ):
        file.write_text(text)
        assert words in fails([file], tmp_path)
    assert fails([tmp_path / "nothing"], tmp_path).endswith("no such file")
    curve = pathlib.Path(generated) / "metrics.jsonl"
    curve.write_text('{"step": 1, "train/loss": 2.0}\n{"step": 2, "tra')
    assert len(cells_of(generated).students[0].curve) == 1  # killed while it wrote
    curve.write_text('{"train/loss": 2.0}\n')
    assert "metrics.jsonl: expected metrics with a `step` in each line" in fails([generated], tmp_path)
    for line in (
        {"step": 10**400},
        {"step": 1, "train/loss": "x"},
        {"step": 1, "train/device_seconds": 10**400},
    ):
        curve.write_text(json.dumps(line) + "\n")
        assert "metrics.jsonl: expected metrics with a `step` in each line" in fails([generated], tmp_path)
    assert cli.main(["report", str(tmp_path / "nothing")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_the_command_prints_the_page_and_what_is_left_out(tmp_path, capsys):
    run = write_run(tmp_path / "one", "standard", 1.0, 0, predictions(12))
    write_lines(pathlib.Path(run) / "eval/test-300.jsonl", predictions(11))
    assert cli.main(["report", run, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(tmp_path / "out/report.html")]
    assert "shown is generate at step 400; also evaluated, not shown: generate at step 300" in printed.err


def luminance(color):
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """The ratio of WCAG 2.2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_every_color_is_seen_on_its_background(theme):
    colors = THEMES[theme]
    assert math.isclose(contrast("#000000", "#ffffff"), 21)
    for name in ("text", "faint", "link"):
        for ground in ("page", "panel"):
            assert contrast(colors[name], colors[ground]) >= 4.5, (name, ground)
    for color in figures.SERIES[theme]:
        assert contrast(color, colors["page"]) >= 3, color


def test_latex_and_markdown_are_escaped():
    text = tables.latex(["a_b", "c"], [["50% & <x>", "1\n2"]], "t_1")
    assert r"a\_b & c \\" in text and r"50\% \& \textless{}x\textgreater{} & 1 2 \\" in text
    assert tables.markdown(["a"], [["x|y\nz"]]) == "| a |\n| --- |\n| x\\|y z |\n"
