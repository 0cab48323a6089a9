import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.scoring.equations import evaluate_equation


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("( 84.0 / 2.0 )", 42.0),
        ("( ( 17.0 + 15.0 ) + 2.0 )", 34.0),
        ("2+3*4", 14.0),
        ("3 1/2", 3.5),
        ("-3 1/2", -3.5),
        ("3½ + ½", 4.0),
        ("x = 5", 5.0),
        ("(2+3)*4", 20.0),
        ("10-4-3", 3.0),
        ("16/4/2", 2.0),
        ("-3 + 5", 2.0),
        ("2*-3", -6.0),
        ("-(1+2)", -3.0),
        ("--4", 4.0),
        ("+4", 4.0),
        (".5 + 1.", 1.5),
        ("1e3", 1000.0),
        ("7", 7.0),
        ("  7\n", 7.0),
        ("3 x 4", 12.0),
        ("3×4 ÷ 6", 2.0),
        ("(2)x(3)", 6.0),
        ("5 − 2", 3.0),
        ("$5", 5.0),
        ("-€2.50", -2.5),
        ("50%", 0.5),
        ("200 * 15%", 30.0),
        ("1,000", 1000.0),
        ("1,234,567.5 - .5", 1234567.0),
        ("12 (apples)", 12.0),
        ("( 3 + 4 ) (in all)", 7.0),
    ],
)
def test_values_by_hand(text, value):
    assert evaluate_equation(text) == value


@pytest.mark.parametrize(
    "text",
    ["", " ", "(", ")", "()", "(1", "1)", "1+", "*1", "1 2", "(1)(2)", "1/0", "1e999", "3 x", "x 3", "x", "$"]
    + ["%", "7 % 3", "(7 * 36) = 252", "two", "2**3", "2//1", "__import__('os')", "1;2", "1,00", "1,2345"]
    + ["12 apples", "(apples)", "1 (2)", "1/2 1/2", "1 2/3/4", "1.5 1/2", "x == 5", "x = y = 5", "3 1/0"],
)
def test_what_is_no_expression_has_no_value(text):
    assert evaluate_equation(text) is None


def test_depth_does_not_overflow_the_stack():
    depth = 100_000
    assert evaluate_equation("(" * depth + "1" + ")" * depth) == 1.0
    assert evaluate_equation("(" * depth) is None
    assert evaluate_equation("-" * depth + "1") == 1.0


@given(st.text())
def test_no_text_crashes_it(text):
    value = evaluate_equation(text)
    assert value is None or math.isfinite(value)


@given(st.text(alphabet="0123456789.+-*/() ", max_size=30))
def test_it_agrees_with_python_where_both_have_a_value(text):
    ours = evaluate_equation(text)
    if ours is None or "**" in text or "//" in text:
        return
    # Python refuses leading zeros (`007`) that we read as a number.
    try:
        theirs = float(eval(text.strip(), {"__builtins__": {}}))
    except (SyntaxError, TypeError):
        return
    assert ours == pytest.approx(theirs, rel=1e-12)
