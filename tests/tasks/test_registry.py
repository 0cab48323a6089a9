import importlib
import re
import subprocess
import sys

import pytest

from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource
from distill_jax.data.views import View
from distill_jax.errors import UserError
from distill_jax.tasks.definition import define_task
from distill_jax.tasks.registry import Registry, get_task, register_distillation_task, resolve

MODULE = """
import functools
from distill_jax.tasks.registry import register_distillation_task
from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource

def make(rng, name, top=9):
    return Example(name, str(rng.integers(top)), "a", rationale="b")

source = GeneratedSource(functools.partial(make, top={top}), {{"train": 4}})
register_distillation_task("{name}", source, label_metric_fns=(lambda targets, predictions: {{}},))
"""


def test_views_of_methods(toy):
    label, why = View("label", "label", "[label] "), View("rationale", "rationale", "[rationale] ")
    teacher = View("label", "teacher_label", "[label] ")
    expected = {
        "toy_standard": (View("label", "label"),),
        "toy_task_distillation": (View("label", "teacher_label"),),
        "toy_label": (label,),
        "toy_rationale": (why,),
        "toy_step_by_step": (label, why),
        "toy_label_teacher": (teacher,),
        "toy_step_by_step_teacher": (teacher, why),
    }
    assert {name: resolve(name)[1] for name in expected} == expected
    assert resolve("toy_step_by_step", "teacher")[1] == (teacher, why)
    assert resolve("toy_standard", "teacher")[1] == (View("label", "teacher_label"),)
    assert resolve("toy_standard")[0] is toy


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nosuch_step_by_step", "unknown task 'nosuch': .*svamp.*, toy"),
        ("toi_standard", "did you mean toy"),
        ("toy", "unknown mixture or task 'toy': expected TASK_METHOD"),
        ("toy_nosuch", "unknown mixture or task"),
        ("", "unknown mixture or task"),
    ],
)
def test_unknown_names(toy, name, expected):
    with pytest.raises(UserError, match=expected):
        resolve(name)


def test_unknown_label_source_and_module(toy):
    with pytest.raises(UserError, match=r"--label-source \(LABEL_SOURCE\) 'golden'"):
        resolve("toy_standard", "golden")
    with pytest.raises(UserError, match="no_such_module"):
        get_task("toy", "no_such_module")


def test_module_of_a_user(tmp_path, monkeypatch):
    (tmp_path / "their_tasks.py").write_text(MODULE.format(name="theirs", top=9))
    monkeypatch.syspath_prepend(tmp_path)
    task, _ = resolve("theirs_step_by_step", module="their_tasks")
    assert task.name == "theirs"
    importlib.reload(sys.modules["their_tasks"])
    assert get_task("theirs") is not task


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No module named 'broken_tasks' in .*FOLDER.*: name its folder in PYTHONPATH, or install it"),
        ("import not_there", "No module named 'not_there' in .*FOLDER"),
        (
            "\nfrom json import not_there",
            "ImportError: cannot import name 'not_there' .*broken_tasks.py, line 2",
        ),
        ("1 / 0", r"ZeroDivisionError: division by zero \(FOLDER/broken_tasks.py, line 1\)"),
        ("def", r"SyntaxError: invalid syntax \(broken_tasks.py, line 1\)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_place(tmp_path, monkeypatch, text, message):
    if text is not None:
        (tmp_path / "broken_tasks.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as error:
        get_task("theirs", "broken_tasks")
    assert re.fullmatch(
        f"--module .* 'broken_tasks': {message.replace('FOLDER', str(tmp_path))}.*", str(error.value)
    )


def test_another_task_of_the_same_name(tmp_path, monkeypatch):
    for module, top in (("first_tasks", 9), ("second_tasks", 9)):
        (tmp_path / f"{module}.py").write_text(MODULE.format(name="same", top=top))
    monkeypatch.syspath_prepend(tmp_path)
    get_task("same", "first_tasks")
    with pytest.raises(UserError, match="another task 'same' is registered already, by .*first_tasks.py"):
        get_task("same", "second_tasks")


def generate(rng, name):
    return Example(name, str(rng.random()), "a")


def test_a_registry_of_ones_own():
    registry, source = Registry(), GeneratedSource(generate, {"train": 4})
    task = register_distillation_task("mine", source, registry=registry)
    assert registry.names() == ["mine"] and registry.resolve("mine_standard")[0] is task
    again = register_distillation_task("mine", source, registry=registry)  # as a cell of a notebook, run again
    assert registry.get("mine") is again is not task
    with pytest.raises(UserError, match="unknown task 'mine'"):
        get_task("mine")
    registry.remove("mine")
    assert registry.names() == []


def test_rate_and_own_metric():
    with pytest.raises(UserError, match="rationale_rate must be above 0"):
        resolve("entailment_step_by_step", rationale_rate=0.0)
    task = define_task(
        "t",
        GeneratedSource(generate, {"train": 4}),
        main_metric="f1",
        label_metric_fns=(lambda targets, predictions: {"f1": float(targets == predictions)},),
    )
    assert task.agrees(Example("1", "x", "a", "a")) and not task.agrees(Example("1", "x", "a", "b"))
    assert task.score_labels([Example("1", "x")], ["a"]) == {}


def test_a_teachers_class_in_another_spelling_is_the_same():
    task = define_task("t", GeneratedSource(generate, {"train": 4}), classes=("yes", "no"))
    assert task.agrees(Example("1", "x", "Yes", " yes")) and not task.agrees(Example("1", "x", "Yes", "no"))
    assert not task.agrees(Example("1", "x", "Yes", None))


@pytest.mark.slow
def test_engine_needs_no_tensorflow(tmp_path):
    code = """
import sys
from distill_jax.data.loader import Loader
from distill_jax.data.prepare import prepare
from distill_jax.tasks.registry import resolve
prepared = prepare(*resolve("entailment_step_by_step"), "validation", vocabulary="bytes",
                   task_feature_lengths={"inputs": 512, "targets": 256})
next(Loader(prepared.path, 2, seed=0))
loaded = {name.split(".")[0] for name in sys.modules} & {"tensorflow", "seqio", "torch"}
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
