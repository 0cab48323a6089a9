import collections
import json
import tracemalloc
import types

import pytest
from teacher_helpers import CLASSES, examples, lines

from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers.export import only_setting, row_of, verdicts, write_rows
from distill_jax.teachers.figures import Figures
from distill_jax.teachers.quality import judge
from distill_jax.teachers.report import figures_table, write_report
from distill_jax.teachers.rows import Rows, chosen


def rows_of(listed) -> Rows:
    return Rows("rows", "default", lambda: iter(listed), CLASSES, str.__eq__, None, "train")


def line(text, **fields):
    return {"text": text, "parser": "anli", "sampling": {}, "requests": 1, "usd": 0.25} | fields


def judged(listed, texts):
    rows = rows_of(listed)
    stored = {row.id: [line(text) for text in found] for row, found in zip(listed, texts, strict=True)}
    return rows, verdicts(rows, iter(listed), lambda row: stored[row.id], None)


ROWS = [
    Example(str(n), f"input {n}", gold) for n, gold in enumerate(["neutral", "neutral", None, "entailment"])
]
TEXTS = [
    ["It is so. So the answer is neutral."],
    ["It is so now. So the answer is entailment."],
    ["No idea."],
    [],
]


def test_figures():
    rows, found = judged(ROWS, TEXTS)
    figures = Figures(rows)
    for verdict, stored in found:
        figures.add(verdict, stored)
    summary = figures.summary()
    assert (summary["rows"], summary["annotated"], summary["answered"], summary["samples"]) == (4, 3, 2, 3)
    assert summary["accuracy"]["rows"] == 2 and summary["accuracy"]["value"] == 0.5
    # Wilson's interval of 1 of 2, by hand: (1 + z²/2 ± z sqrt(1/2 + z²/4)) / (2 + z²) with z = 1.95996.
    assert summary["accuracy"]["low"] == pytest.approx(0.09453, abs=1e-5)
    assert summary["accuracy"]["high"] == pytest.approx(0.90547, abs=1e-5)
    assert summary["problems"] == {"unparsed": pytest.approx(1 / 3)}
    assert summary["rationale_words"] == {"mean": 3.5, "median": 3, "p95": 4}
    assert summary["requests"] == 3 and summary["usd"] == 0.75
    assert {kind: [row["id"] for row in shown] for kind, shown in summary["shown"].items()} == {
        "right": ["0"],
        "wrong": ["1"],
        "unanswered": ["2"],
    }


def test_rows_without_anything_to_learn_from_are_left_out(tmp_path):
    rows, found = judged(ROWS, TEXTS)
    assert write_rows(tmp_path / "out.jsonl", found, Figures(rows)) == (3, 1)
    assert lines(tmp_path / "out.jsonl") == [
        {
            "id": "0",
            "input": "input 0",
            "label": "neutral",
            "teacher_label": "neutral",
            "rationale": "It is so.",
            "agreement": 1.0,
        },
        {
            "id": "1",
            "input": "input 1",
            "label": "neutral",
            "teacher_label": "entailment",
            "rationale": "It is so now.",
            "agreement": 1.0,
        },
        {"id": "3", "input": "input 3", "label": "entailment"},
    ]


def test_an_export_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("before\n")

    def broken():
        yield from judged(ROWS, TEXTS)[1]
        raise UserError("row 5 is spoilt")

    with pytest.raises(UserError, match="spoilt"):
        write_rows(path, broken(), Figures(rows_of(ROWS)))
    with pytest.raises(UserError, match="none of the 1 rows"):
        write_rows(path, judged(ROWS[2:3], TEXTS[2:3])[1], Figures(rows_of(ROWS)))
    assert path.read_text() == "before\n" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot be written"):
        write_rows(path / "below", judged(ROWS, TEXTS)[1], Figures(rows_of(ROWS)))


def test_the_shown_samples_are_a_fair_draw():
    """Each of 20 rows is among the 5 shown with probability 1/4: 500 draws, 5 standard deviations."""
    listed = [Example(str(n), "x", "neutral") for n in range(20)]
    seen = collections.Counter()
    for seed in range(500):
        figures = Figures(rows_of(listed), seed)
        for verdict, stored in judged(listed, [TEXTS[0]] * 20)[1]:
            figures.add(verdict, stored)
        shown = figures.summary()["shown"]["right"]
        assert len(shown) == 5
        seen.update(row["id"] for row in shown)
    assert all(abs(seen[str(n)] - 125) < 5 * (500 * 0.25 * 0.75) ** 0.5 for n in range(20))


def test_figures_do_not_grow_with_the_rows():
    figures, row = Figures(rows_of([])), Example("1", "x" * 1000, "neutral")
    verdict, stored = next(judged([row], [TEXTS[0]])[1])
    for _ in range(100):
        figures.add(verdict, stored)
    tracemalloc.start()
    for _ in range(5000):
        figures.add(verdict, stored)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 20_000


def test_the_report_is_plain_text_in_html(tmp_path):
    rows, found = judged([Example("<b>", "1 < 2 & é", "neutral")], [TEXTS[0]])
    figures = Figures(rows)
    for verdict, stored in found:
        figures.add(verdict, stored)
    path = tmp_path / "deep" / "report.html"
    write_report(str(path), "A <title>", figures.summary(), {"model": "<m>"})
    page = path.read_text()
    assert "1 &lt; 2 &amp; é" in page and "<b>" not in page and "&lt;m&gt;" in page
    assert json.loads(path.with_suffix(".json").read_text())["settings"] == {"model": "<m>"}
    assert ("cost", "0.2500 USD") in figures_table(figures.summary())


def test_choices_of_the_row_come_before_classes():
    row = Example("1", "x", choices=("red", "blue"))
    assert rows_of([]).options(row) == ("red", "blue") and rows_of([]).options(ROWS[0]) == CLASSES
    assert row_of(judge(row, [], row.choices)) is None


def test_chosen_rows():
    stream = lambda: iter(examples(6))  # noqa: E731
    assert [row.id for row in chosen(stream, limit=2)] == ["row-0", "row-1"]
    assert [row.id for row in chosen(stream, {"row-4", "row-1"})] == ["row-1", "row-4"]
    with pytest.raises(UserError, match="'row-9'"):
        list(chosen(stream, {"row-9"}))


def test_rows_that_share_an_id_in_a_store_are_named():
    stored = [{"prompt": p, "model": "m", "sampling": {}, "template": "default@1"} for p in ("of a", "of b")]
    store = types.SimpleNamespace(path="s.jsonl", read=lambda name: stored)
    expected = "s.jsonl: row 0 has completions of several prompts of one setting: another row has its id"
    with pytest.raises(UserError, match=expected):
        only_setting(store)(ROWS[0])
