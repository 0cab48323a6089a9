import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.data.completions import UNPARSED
from distill_jax.data.views import ANSWER
from distill_jax.teachers.parsing import cut, form_parser, parse_json, parser, plain
from distill_jax.teachers.prompts import load_template

FORM = "{rationale} So the answer is {label}."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. So the answer is wet.", ("wet", "It rains.")),
        ("It rains.\n\nso  the answer is wet", ("wet", "It rains.")),
        ("It rains. So the answer is wet.\nI hope that helps.", ("wet", "It rains.")),
        ("It rains. So the answer is 3.5 mm.", ("3.5 mm", "It rains.")),
        ("So the answer is wet.", UNPARSED),  # no reason
        ("It rains. The answer: wet.", UNPARSED),
        ("It rains. So the answer is .", UNPARSED),
        ("", UNPARSED),
    ],
)
def test_a_form(text, expected):
    assert form_parser(FORM)(text) == expected


def test_a_form_with_a_letter_and_one_that_begins_with_a_word():
    assert form_parser("{rationale} ({letter}) {label}")("Because. (b) blue") == ("blue", "Because.")
    assert form_parser("Reason: {rationale}\nLabel: {label}")("reason: it is\nLABEL: yes") == ("yes", "it is")


def test_our_own_students_answers():
    """As `View` and the server of a student write them."""
    form = load_template("student").answer
    assert form == f"{{rationale}}{ANSWER}{{label}}"
    assert form_parser(form)(f"A fish and a tool.{ANSWER}contradiction") == (
        "contradiction",
        "A fish and a tool.",
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"rationale": " it is ", "label": "yes"}',
        '```json\n{"label": "yes", "rationale": "it is", "more": 1}\n```',
        'Here it is:\n```\n{"label": "yes", "rationale": "it is"}\n```',
    ],
)
def test_json(text):
    assert parse_json(text) == ("yes", "it is")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"label": "yes"}', '{"label": 3, "rationale": "x"}', "{" * 9999]
)
def test_no_json(text):
    assert parse_json(text) == UNPARSED


@given(st.text() | st.text("So the answer is.\n {}\"'"))
def test_any_text(text):
    for name in ("json", f"form:{FORM}", "svamp", "cqa", "anli", "esnli"):
        label, rationale = parser(name)(text)
        assert (label is None) == (rationale is None)


def test_unknown_parser():
    with pytest.raises(ValueError, match="gsm8k"):
        parser("gsm8k")


def test_cut_and_plain():
    assert cut("one\n\nQ: two\n\nP: three", ["\n\nP:", "\n\nQ:"]) == "one"
    assert cut("one", ["Q"]) == "one"
    assert plain(' **Neutral**." ') == "neutral"
