import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.data.completions import UNPARSED
from distill_jax.data.labels import place_of
from distill_jax.data.views import ANSWER
from distill_jax.scoring.consistency import last_equation
from distill_jax.teachers.http_errors import error_message, status_error
from distill_jax.teachers.messages import trouble
from distill_jax.teachers.parsing import REFERENCE, cut, form_parser, parse_json, parser, plain
from distill_jax.teachers.prompts import load_template
from distill_jax.teachers.quality import arithmetic_holds, label_named
from distill_jax.teachers.thinking import harmless, split

FORM = "{rationale} So the answer is {label}."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. So the answer is wet.", ("wet", "It rains.")),
        ("It rains.\n\nso  the answer is wet", ("wet", "It rains.")),
        ("It rains. So the answer is wet.\nI hope that helps.", ("wet", "It rains.")),
        ("It rains. So the answer is 3.5 mm.", ("3.5 mm", "It rains.")),
        ("So the answer is wet.", ("wet", None)),  # no reason: a label alone
        ("It rains. So the answer is wet<|im_end|>", ("wet", "It rains.")),
        ("It rains. So the answer is wet.</s>", ("wet", "It rains.")),
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
        'Here it is:\n```\n{"label": "yes", "rationale": "it is"}\n```\nHope it helps {smile}',
        'Sure! {"rationale": "it is", "label": "yes"}',
        '{"rationale": "it is", "label": "yes"}}',
        '{"rationale": "it is", "label": "yes",}',
        '[{"rationale": "it is", "label": "yes"}]',
        '{"Rationale": "it is", "LABEL": "yes"}',
        "{'rationale': 'it is', 'label': 'yes'}",
        '{"rationale": "it is" "label": "yes"}',
        "{rationale: it is, label: yes}",
        'In {braces}: {"rationale": "it is", "label": "yes"}',
        '{"answer": {"rationale": "it is", "label": "yes"}}',
        '{"rationale": "it is", "label": "yes"}\n{"label": "yes", "rationale": "it is"}',
    ],
)
def test_json_and_nearly_json(text):
    assert parse_json(text) == ("yes", "it is")


def test_json_whose_parts_are_no_plain_texts():
    assert parse_json('{"rationale": "line one\nline two", "label": "2"}') == ("2", "line one\nline two")
    assert parse_json('{"rationale": 5, "label": 3.0}') == ("3", "5")
    assert parse_json('{"label": "1", "rationale": ""}') == parse_json('{"label": 1}') == ("1", None)
    long = f'{{"rationale": "{"word " * 2000}\n", "label": "1",}}'  # too long for a library to repair it
    assert parse_json(long) == ("1", ("word " * 2000).strip())
    assert parse_json('{"rationale": "x", "label": true}') == ("true", "x")
    inner = {"rationale": "use ```json {} ``` here", "label": "1"}
    assert parse_json(json.dumps(inner)) == ("1", inner["rationale"])


@pytest.mark.parametrize(
    "text",
    [
        '{"label": "1", "label": "2"}',  # one of them may be meant
        '{"label": "1", "Label": "2"}',
        *('{"label": NaN}', '{"label": 1e999}'),
        *("", "[]", "{}", '{"label": ""}', '{"label": null, "rationale": "x"}', "{" * 9999, "yes", "[1, 2]"),
        '{"label": ["yes"], "rationale": "x"}',
        '{"label": {"is": "yes"}, "rationale": "x"}',
        '{"rationale": "x", "label": "1"}\n{"rationale": "y", "label": "2"}',
    ],
)
def test_no_json(text):
    assert parse_json(text) == UNPARSED


NAMES = (
    "json",
    f"form:{FORM}",
    "form:{rationale} ({letter}) {label}",
    "form:Label: {label}\nReason: {rationale}",
)
NAMES += tuple(REFERENCE)


@given(st.text() | st.text("So the answer is.\n {}\"'<>/think|[]"))
def test_any_text(text):
    for name in NAMES:
        label, rationale = parser(name)(text)
        assert rationale is None or label is not None
    parts = split(text)
    assert (parts.thinking, parts.answer) == ("", text) or len(parts.answer) < len(text)
    assert split(parts.answer).answer == parts.answer or "<" in text or "[" in text


PIECES = [
    "\n",
    " ",
    "{",
    "}",
    "(",
    '"',
    "So the answer is",
    "So ",
    "Answer: ",
    "Q:",
    "<think>",
    "</s>",
    "<|im_end|>",
]
PIECES += [
    "1 + ",
    "[",
    "a",
    "\\",
    "```json\n{",
    '{"label": ',
    "So\n\n the\n\n",
    "<think",
    "- ",
    "**",
    "\u0301",
    "Premise:",
    "<script",
    "</think>",
    "1=",
    '[{"a":',
    "1",
    "model ",
    "max",
]


@pytest.mark.parametrize("piece", PIECES)
def test_parsers_take_time_in_proportion_to_the_text(piece):
    """Within 50 ms for 100 kB on a free core; a quadratic one takes minutes, so ten times that will do here."""
    text = (piece * 100_000)[:100_000]
    for label in ("", " So the answer is x."):
        for name in NAMES:
            read = parser(name)
            assert _seconds(read, text + label) < 0.5, name
        assert _seconds(split, text + label) < 0.5
        assert _seconds(harmless, text + label) < 0.5
        assert _seconds(error_message, text + label) < 0.5
        assert _seconds(error_message, f"<html>{text}{label}") < 0.5
        assert _seconds(status_error, 400, text + label) < 0.5
        assert _seconds(trouble, text + label, text) < 0.5
        assert _seconds(last_equation, text + label) < 0.5
        assert _seconds(arithmetic_holds, text + label) < 0.5
        assert _seconds(label_named, "It is 3.", text + label) < 0.5
        assert _seconds(place_of, text + label, ["x", "y"]) < 0.5


def _seconds(function, *args):
    begun = time.process_time()
    function(*args)
    return time.process_time() - begun


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>\nHm.\n</think>\nIt is. So", "Hm.", "It is. So"),
        ("Hm.\n</think>It is.", "Hm.", "It is."),
        ("<think>Hm. So the answer is no.", "Hm. So the answer is no.", ""),
        ("<thinking>a</thinking>b<THINK>c</THINK>d", "a\nc", "bd"),
        ("◁think▷a◁/think▷b", "a", "b"),
        ("[THINK]a[/THINK]b", "a", "b"),
        ("<|begin_of_thought|>a<|end_of_thought|>b", "a", "b"),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
            "a",
            "b",
        ),
        ("It is so.<|im_end|>\n", "", "It is so."),
        ("It is</s> so.</s> <eos>", "", "It is</s> so."),
        ("<|thinking|>a<|/thinking|>b", "a", "b"),
        ("It is so. [EOS]", "", "It is so."),
        ("It is so.[|endofturn|]<EOS>", "", "It is so."),
        ("It is [so].", "", "It is [so]."),
        ("", "", ""),
    ],
)
def test_thinking_is_parted_from_the_answer(text, thinking, answer):
    parts = split(text)
    assert (parts.thinking, parts.answer.strip()) == (thinking, answer)
    assert text[parts.start :].startswith(answer[-1:]) or not answer or answer in text


def test_unknown_parser():
    with pytest.raises(ValueError, match="gsm8k"):
        parser("gsm8k")


def test_cut_and_plain():
    assert cut("one\n\nQ: two\n\nP: three", ["\n\nP:", "\n\nQ:"]) == "one"
    assert cut("one", ["Q"]) == "one"
    assert plain(' **Neutral**." ') == "neutral"
