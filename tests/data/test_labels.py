"""The one equality of labels: `labels.place_of`."""

import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_jax.data.labels import class_names, composed, meant, place_of, same, spelled
from distill_jax.data.schema import Example
from distill_jax.data.sources import CsvSource, JsonlSource
from distill_jax.data.views import soften
from distill_jax.errors import UserError
from distill_jax.scoring.classes import confusion_matrix
from distill_jax.tasks import own
from distill_jax.tasks.definition import define_task

VOWEL = "\u0915\u093f"  # Devanagari ka with the vowel sign i


@pytest.mark.parametrize(
    ("options", "meanings"),
    [
        (
            ("-1", "0", "1"),
            {"**1**": "1", "+1": "1", "-1": "-1", "1.0": "1", "'0'": "0", "2": None, "\u22121.": "-1"},
        ),
        (("-1", "1", "+1"), {"+1": "+1", "**+1**": "+1", "1": "1", "`-1`": "-1", "1.0": None}),
        (("C", "C#", "C++"), {"'C++'": "C++", "**C#**": "C#", "C": "C", "c++.": "C++", "D": None, "C+": None}),
        (("A", "B"), {"A-": None, "A+": None, "a": "A", "(B)": "B", "A.": "A"}),
        (("A-", "A+"), {"**A-**": "A-", "A": None, "a+": "A+"}),
        (("+", "-"), {"'+'": "+", "**-**": "-", "!!!": None, "": None}),
        (("★", "★★"), {"★★": "★★", "**★**": "★", " ★★ ": "★★", "★★★": None}),
        (("yes", "no"), {"Yes!": "yes", "yes no": None, "NO\n": "no", "“yes”": "yes"}),
        (("yes", "YES"), {"Yes": None, "YES": "YES", "**yes**": "yes"}),
        (("\u0915", VOWEL), {VOWEL: VOWEL, f"*{VOWEL}*": VOWEL, "\u0915\u0940": None}),
        (("café", "tea"), {"cafe\u0301": "café", "**CAFE\u0301**": "café"}),
        (("1", "10"), {"10.": "10", "1.0": "1", ".1": None, "5": None}),
        (("1.1", "1.10"), {"**1.10**": "1.10", "1.1.": "1.1", "1.100": None}),
        (("a", "*a"), {"**a**": None}),  # either may be meant
        (("true", "false"), {"True": "true"}),
        (("1", "2", "3"), {"One": "1", "**two**.": "2", "four": None}),
        (("St.", "Ave"), {"St": "St.", "**st**": "St.", "St..": "St."}),
        (("हाँ", "नहीं"), {"नहीं।": "नहीं", "हाँ\u200b": "हाँ", "\ufeffहाँ": "हाँ"}),
        (("?", "??"), {"**??**": "??", "**?**": "?", "`??`.": None, "???": None}),
        (("No", "No."), {"**No.**": "No.", "**No**": "No", "no!": "No"}),
        (("yes!", "yes?"), {"yes": None, "yes!": "yes!"}),
        (("1", "one"), {"One": "one", "1": "1", "1.0": None, "+1": None}),
    ],
)
def test_the_option_that_a_label_means(options, meanings):
    assert {label: meant(label, options) for label in meanings} == meanings


SCRIPTS = ("Aa", "Яа", "Ωα", "कखगि", "ไทยา", "日本語", "한글", "עב", "عرب", "தமி", "0123456789", "+-#★!?%&.:")
CLASSES = st.lists(
    st.sampled_from(SCRIPTS).flatmap(lambda letters: st.text(letters, min_size=1, max_size=3)),
    min_size=2,
    max_size=5,
    unique=True,
)
MARKS = ["", "**", "*", "`", '"', "'", " ", "\n", "_", "“", "«", "(", "[", "「"]
ENDS = ["", ".", "!", "。", "…", ")", " ,", "؟", "।", ":**", "\u00a0", "]", "”", "।"]


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(CLASSES, st.data())
def test_a_decorated_class_is_that_class_or_none(classes, data):
    chosen = data.draw(st.sampled_from(classes))
    decorated = data.draw(st.sampled_from([chosen, unicodedata.normalize("NFD", chosen)]))
    for _ in range(data.draw(st.integers(0, 3))):
        mark = data.draw(st.sampled_from(MARKS))
        decorated = f"{mark}{decorated}{data.draw(st.sampled_from([mark, *ENDS]))}"
    if data.draw(st.booleans()) and not any(c.swapcase() == chosen and c != chosen for c in classes):
        decorated = decorated.swapcase()
    if composed(decorated) not in map(composed, classes):  # that text itself is a class, which is what it means
        assert meant(decorated, classes) in (chosen, None)
    assert meant(f" **{chosen}** ", classes) == chosen
    assert place_of(chosen, classes) == classes.index(chosen)


def test_a_value_has_one_spelling_whichever_file_it_comes_from(tmp_path):
    assert [spelled(v) for v in (1, 1.0, "1", "1.0", " 1.00", "-2.0", 2.5, True, "x", 1e300)] == [
        *("1", "1", "1", "1", "1", "-2", "2.5", "true", "x", "1e+300")
    ]
    (tmp_path / "t.csv").write_text("id,input,label\n1.0,x,1.0\n2,x,True\n")  # as pandas writes them
    lines = [{"id": 1, "input": "x", "label": 1.0}, {"id": 2.0, "input": "x", "label": True}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for source in (CsvSource, JsonlSource):
        path = next(tmp_path.glob(f"*{'.csv' if source is CsvSource else '.jsonl'}"))
        assert [(e.id, e.label) for e in source({"train": [path]}).examples("train")] == [
            ("1", "1"),
            ("2", "true"),
        ]
    assert same("x ", " x") and same("é", "e\u0301") and not same("x", "X") and not same("x", None)


def test_labels_are_read_as_their_class_is_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"input": "1", "label": "Yes ", "teacher_label": "**yes**", "label_probs": [0.9, 0.1]},
        {"input": "2", "label": -1, "teacher_label": "NO"},
        {"input": "3", "label": "maybe"},
        {"input": "4", "label": "Red", "choices": ["red", 2.0]},
        {"input": "5", "label": 2, "choices": ["red", 2.0]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = own.own_task(own.describe(str(path), str(path), classes=[" yes", "no ", ""]))
    examples = list(task.source.examples("train"))
    assert [e.label for e in examples] == ["yes", None, "maybe", "red", "2"]
    assert [e.teacher_label for e in examples[:2]] == ["yes", "no"]
    assert soften(examples[0], task.classes).reference == 0 and soften(examples[1], task.classes).probs == (
        0,
        1,
    )
    assert task.agrees(examples[0]) and task.classes == ("yes", "no")
    raw = own.own_task(own.describe(str(path), str(path)))
    assert raw.source.fingerprint("train") != task.source.fingerprint("train")


@pytest.mark.parametrize(
    ("label", "classes", "read"), [(-1, None, None), (-1, ["-1", "1"], "-1"), (-2, ["a"], None)]
)
def test_a_class_number_below_0_is_no_label(tmp_path, label, classes, read):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"input": "x", "label": label, "rationale": "r"}) + "\n")
    [example] = JsonlSource({"train": [path]}, classes=classes).examples("train")
    assert example.label == read


def test_metrics_and_reports_compare_by_the_same_equality():
    examples = [Example("1", "x", "Yes"), Example("2", "x", "no")]
    task = define_task("t", None, classes=["yes", "no"])
    assert task.score_labels(examples, ["**yes**", "maybe"]) == {"accuracy": 0.5}
    assert task.agrees(Example("1", "x", "Yes", teacher_label="`yes`"))
    counts = confusion_matrix(["Yes", "no", "odd"], ["yes.", None, "no"], ["yes", "no"])
    assert counts.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_a_choice_or_a_key_that_stands_there_twice(tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    row = {"input": "q", "label": "6", "choices": [6, "5", "6 "], "label_probs": [0.2, 0.5, 0.3]}
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"choices": ["5", "6", "7"]}) + "\n")
    source = JsonlSource({"train": [path]})
    examples = list(source.examples("train"))
    assert [e.choices for e in examples] == [("6", "5"), ("5", "6", "7")]
    assert [e.label_probs for e in examples] == [(0.5, 0.5), (0.2, 0.5, 0.3)]
    assert f"{path}, line 1: a choice stands twice, in 1 rows of train: taken as one" in caplog.text
    path.write_text(
        '{"input": "x", "label": "a", "more": {"x": 1, "x": 2}}\n{"input": "x", "label": "a", "label": "b"}\n'
    )
    with pytest.raises(UserError, match="rows.jsonl, line 2: the key 'label' stands there twice: rename one"):
        list(source.examples("train"))


def test_the_classes_that_are_given(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("one, two\r\n\r\n three \r\n", encoding="utf-16")
    assert class_names(None, str(path)) == ("one, two", "three")
    path.write_text('["a, b", "c", 1.0]')
    assert class_names(None, str(path)) == ("a, b", "c", "1")
    assert class_names(tuple('["a, b", "c"]'.split(","))) == ("a, b", "c")
    assert class_names(("billing", " shipping", "other", "")) == ("billing", "shipping", "other")
    assert class_names(None) is None and class_names(("", " ")) is None
    for classes, wrong in ((("x", " x"), "'x' is named twice"), (("[1", "2"), "JSON list")):
        with pytest.raises(UserError, match=wrong):
            class_names(classes)
    with pytest.raises(UserError, match="none.txt: no such file"):
        class_names(None, str(tmp_path / "none.txt"))
