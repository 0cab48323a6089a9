from distill_jax.data.schema import Example
from distill_jax.data.views import TASK_IDS, View


def test_view():
    example = Example("1", "2 and 2?", label="4", rationale="2 + 2 is 4.")
    assert View("label", "label", "[label] ")(example) == ("[label] 2 and 2?", "4")
    assert View("rationale", "rationale", "[r] ")(example) == ("[r] 2 and 2?", "2 + 2 is 4.")
    assert View("label", "teacher_label")(example) is None


def test_ids_leave_zero_to_padding():
    assert sorted(TASK_IDS.values()) == [1, 2, 3]
