import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.scoring.consistency import last_equation, named_choice


def test_the_choice_that_a_rationale_names():
    choices = ("bank", "river bank", "train station")
    assert named_choice("Of the above choices, only a Train Station fits.", choices) == "train station"
    assert named_choice("One fishes at a river bank.", choices) == "river bank"
    assert named_choice("A bank, or a train station.", choices) is None
    assert named_choice("The bankers.", choices) is None
    assert named_choice("Is it a+b (or so)?", ("a+b", "c")) == "a+b"
    assert named_choice("anything", ()) is None


@pytest.mark.parametrize(
    "rationale, equation",
    [
        ("So he scored 84 points in 2 rounds. 84 / 2 = 42.", "84 / 2"),
        ("17 + 15 = 32, and 32 + 2 = 34 kids.", "32 + 2"),
        ("The answer is ( 76.0 - 25.0 )", "( 76.0 - 25.0 )"),
        ("(7 + 5 = 12)", "7 + 5"),
        ("So Ed had 45 - (-1) = 46 marbles.", "45 - (-1)"),
        ("He had -78 + 154 = 76 cakes.", "-78 + 154"),
        ("The discount is 76-25 = 51.", "76-25"),
        ("each of 1,200 x 3 boxes", "1200 * 3"),
        ("He has 12 apples.", None),
        ("", None),
    ],
)
def test_the_last_calculation_of_a_rationale(rationale, equation):
    assert last_equation(rationale) == equation


@given(st.text(alphabet="0123456789+-*/x×() .,=ab", max_size=80))
def test_any_rationale_is_read(text):
    equation = last_equation(text)
    assert equation is None or any(sign in equation for sign in "+-*/")
