import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.config import COMMANDS
from distill_jax.config.data import column_flag
from distill_jax.config.options import flags_of
from distill_jax.data.schema import Example
from distill_jax.data.sources import FIELDS, Columns, CsvSource, JsonlSource
from distill_jax.errors import UserError


def example(row, columns=None, **options):
    return Columns(columns, **options).example("f, line 1", "f-1", row)


def test_columns_by_name():
    row = {"q": "2?", "a": 2, "why": "It is.", "p": [0.5, 0.5], "c": '["1", "2"]', "n": 7}
    columns = {"input": "q", "label": "a", "rationale": "why", "label_probs": "p", "choices": "c", "id": "n"}
    assert example(row, columns) == Example("7", "2?", "2", None, "It is.", (0.5, 0.5), ("1", "2"))


def test_a_field_of_several_columns():
    row = {"premise": "A {b} $c.", "hypothesis": "D\\1.", "label": "yes"}
    columns = {"input": "{premise}</s>{hypothesis}"}
    assert example(row, columns).input == "A {b} $c.</s>D\\1."
    with pytest.raises(UserError, match="f, line 1: expected text in 'premises'"):
        example(row, {"input": "{premises}"})
    assert example({"{a}": "as it is", "label": "y"}, {"input": "{a}"}).input == "as it is"
    with pytest.raises(UserError, match="expected text in '__class__'"):
        example(row, {"input": "{__class__}"})


@pytest.mark.parametrize("nothing", [None, "", "  ", float("nan")])
def test_nothing_in_a_column(nothing):
    row = {"input": "x", "label": "y", "rationale": nothing, "label_probs": nothing, "choices": nothing}
    assert example(row) == Example("f-1", "x", "y")


def test_a_row_needs_a_target_unless_told():
    with pytest.raises(UserError, match="no label and no rationale"):
        example({"input": "x"})
    assert example({"input": "x"}, needs_target=False) == Example("f-1", "x")
    assert example({"input": "x", "label_probs": [1]}).label_probs == (1.0,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", ["y"]),
        ("rationale", {}),
        ("label_probs", "0.5, 0.5"),
        ("label_probs", [0.5, "0.5"]),
        ("label_probs", [1.5]),
        ("label_probs", 0.5),
        ("choices", "yes, no"),
        ("choices", ["yes", None]),
        ("choices", []),
        ("input", 3),
        ("input", " "),
    ],
)
def test_columns_of_the_wrong_kind(field, value):
    with pytest.raises(UserError, match=f"f, line 1: expected .*{field}"):
        example({"input": "x", "label": "y", field: value})


def test_unknown_field():
    with pytest.raises(UserError, match="unknown field 'text': expected one of id, input"):
        Columns({"text": "x"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([*FIELDS, "a", "{b}"]), JSON),
    st.dictionaries(st.sampled_from(FIELDS), st.text() | st.sampled_from(["a", "{a}", "{a.b}", "{0!r}"])),
)
def test_any_row_is_an_example_or_one_clear_line(row, columns):
    try:
        found = example(row, columns)
    except UserError as error:
        assert str(error).startswith("f, line 1: ") and "\n" not in str(error).replace("\\n", "")
        return
    assert found.input.strip() and found.id
    for field in ("label", "teacher_label", "rationale"):
        assert getattr(found, field) is None or getattr(found, field).strip()


def test_a_column_that_is_not_there_is_told_with_the_nearest(tmp_path):
    with pytest.raises(
        UserError,
        match=r"no label and no .*; there are input, answer; did you mean answer\? Choose with --label-c",
    ):
        example({"input": "x", "answer": "y"}, {"label": "answers"})
    with pytest.raises(
        UserError, match="there are input, why; choose with --label-column or --rationale-column"
    ):
        example({"input": "x", "why": "y"})
    with pytest.raises(
        UserError, match="in 'inputs', there are input; did you mean input. Choose with --input-c"
    ):
        example({"input": "x"}, {"input": "inputs"})
    with pytest.raises(UserError, match="in 'premise', there are question; choose with --input-column"):
        example({"question": "x"}, {"input": "{premise} {hypothesis}"})


@pytest.mark.parametrize("command", ["data show", "prepare", "train", "annotate", "select", "infer"])
def test_the_flag_that_is_told_is_one_of_the_command(command):
    fields = COMMANDS[command].options().values()
    flags = {flag for field in fields for flag in flags_of(field)}
    told = ("input", "choices", "rationale") if command == "infer" else FIELDS
    assert flags.issuperset(map(column_flag, told))


@pytest.mark.parametrize("kind, ending", [(JsonlSource, "jsonl"), (CsvSource, "csv")])
def test_a_column_that_no_row_has_is_refused_and_one_that_some_have_is_not(kind, ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    path.write_text('{"input": "x", "label": "y"}\n{"input": "x", "label": "y", "why": "z"}\n')
    if ending == "csv":
        path.write_text("input,label,why\nx,y,z\n")
    source = kind({"train": [path]}, {"rationale": "wy"})
    there = "there are input, label, why; did you mean why? Choose with --rationale-column"
    message = f"no row has 'wy' for rationale: {there}"
    with pytest.raises(UserError, match=re.escape(f"{path}: {message}")):
        next(source.examples("train"))
    source = kind({"train": [path]}, {"rationale": "why"})
    assert len(list(source.examples("train"))) == path.read_text().count("z") + (ending == "jsonl")
    (tmp_path / "test.jsonl").write_text('{"input": "x", "label": "y"}\n')
    splits = {"train": [tmp_path / "a.jsonl"], "test": [tmp_path / "test.jsonl"]}
    if ending == "jsonl":  # rows to test on need no rationale
        assert len(list(kind(splits, {"rationale": "why"}).examples("test"))) == 1
