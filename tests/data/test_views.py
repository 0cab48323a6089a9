import pytest

from distill_jax.data.schema import Example
from distill_jax.data.views import TASK_IDS, View, soften

EXAMPLE = Example("1", "2 and 2?", "4", "5", "2 + 2 is 4.", (0.25, 0.75), ("4", "5"))


def test_view():
    example = Example("1", "2 and 2?", label="4", rationale="2 + 2 is 4.")
    assert View("label", "label", "[label] ")(example) == ("[label] 2 and 2?", "4")
    assert View("rationale", "rationale", "[r] ")(example) == ("[r] 2 and 2?", "2 + 2 is 4.")
    assert View("label", "teacher_label")(example) is None


def test_ids_leave_zero_to_padding():
    assert sorted(TASK_IDS.values()) == list(range(1, len(TASK_IDS) + 1))


def test_rationale_and_label_in_one_target():
    view = View("single_task", "rationale", answer="label")
    inputs, targets = view(EXAMPLE)
    assert (inputs, targets) == ("2 and 2?", "2 + 2 is 4. So the answer is: 4")
    assert view.read(targets) == {"rationale": "2 + 2 is 4.", "label": "4"}
    assert view.read("2 + 2 is 4, and so") == {"rationale": "2 + 2 is 4, and so", "label": ""}
    assert view(Example("1", "x", label="y")) is None
    assert view(Example("1", "x", rationale="y")) is None


def test_the_rationale_as_input():
    view = View("label", "label", reads_rationale=True)
    assert view(EXAMPLE) == ("2 and 2?\n2 + 2 is 4.", "4")
    assert view(Example("1", "x", "y")) is None
    assert view.inputs(Example("1", "x", "y")) == "x"


@pytest.mark.parametrize(("rate", "of_ten"), [(1.0, 10), (2.0, 20), (0.5, 5), (0.3, 3), (1.25, 12)])
def test_copies_are_exact(rate, of_ten):
    view = View("rationale", "rationale", rate=rate)
    copies = [view.copies(n) for n in range(10)]
    assert sum(copies) == of_ten
    assert max(copies) - min(copies) <= 1


def test_soft_label_of_the_row_itself():
    soft = soften(EXAMPLE, ("no", "yes"))
    assert (soft.choices, soft.probs, soft.reference) == (("4", "5"), (0.25, 0.75), 0)
    assert soften(EXAMPLE, None, "teacher_label").reference == 1


def test_soft_label_of_the_task():
    example = Example("1", "x", "no", label_probs=(1.0, 3.0))
    assert soften(example, ("no", "yes")).probs == (0.25, 0.75)
    with pytest.raises(ValueError, match="2 label_probs for the 3 labels"):
        soften(example, ("a", "b", "c"))
    with pytest.raises(ValueError, match="all 0"):
        soften(Example("1", "x", label_probs=(0.0, 0.0)), ("a", "b"))


def test_a_teacher_without_probabilities_is_certain():
    soft = soften(Example("1", "x", "no", "yes"), None)
    assert (soft.choices, soft.probs, soft.reference) == (("no", "yes"), (0.0, 1.0), 0)
    assert soften(Example("1", "x", None, "yes"), ("no", "yes")).reference == -1
    assert soften(Example("1", "x", "no"), ("no", "yes")) is None
    assert soften(Example("1", "x", "no", "maybe"), ("no", "yes")) is None
