import json

import numpy as np
import pytest

from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource
from distill_jax.data.statistics import task_statistics
from distill_jax.errors import UserError
from distill_jax.tasks.definition import define_task


def test_reference_layout(files):
    path = files.completions("train", 0)
    texts = json.loads(path.read_text())
    texts[0], texts[1] = "no answer", texts[1].replace("(1 + 1)", "(1 + 2)")
    path.write_text(json.dumps(texts))
    figures = task_statistics(define_task("files", files.source), vocabulary="bytes")
    assert figures["vocabulary"] == "bytes"
    assert set(figures["splits"]) == {"train", "test"}
    train = figures["splits"]["train"]
    assert (train["rows"], train["validation_rows"], train["unparsed"]) == (30, 3, 1)
    assert train["teacher_accuracy"] == 0.0  # texts are compared, and the teacher has no spaces
    examples = list(files.source.source.examples("train"))
    lengths = [len(example.input) for example in examples]
    assert train["token_lengths"]["input"]["mean"] == pytest.approx(np.mean(lengths))
    assert train["token_lengths"]["input"]["max"] == max(lengths)
    assert 0.5 < train["packing_fill"]["encoder"] <= 1.0
    assert "validation_rows" not in figures["splits"]["test"]
    json.dumps(figures, allow_nan=False)


def generate(rng, name):
    number = int(rng.integers(0, 1000))
    reference = None if number % 2 else str(number)
    teacher = None if number % 3 == 0 else f" {number} " if number % 4 == 0 else "wrong"
    return Example(name, f"{number}?", reference, teacher, "because" if teacher else None)


def test_accuracy_is_over_rows_with_a_reference_label():
    task = define_task("some", GeneratedSource(generate, {"train": 200}))
    examples = list(task.source.examples("train"))
    reference = [e for e in examples if e.label is not None]
    right = [e for e in reference if e.teacher_label and e.teacher_label.strip() == e.label]
    figures = task_statistics(task, vocabulary="bytes")["splits"]["train"]
    assert figures["teacher_accuracy"] == pytest.approx(len(right) / len(reference))
    assert figures["unparsed"] == sum(e.teacher_label is None for e in examples)


def test_one_split_and_a_wrong_one(toy):
    assert set(task_statistics(toy, ["test"], "bytes")["splits"]) == {"test"}
    with pytest.raises(UserError, match="no split 'dev'"):
        task_statistics(toy, ["dev"], "bytes")


def test_postprocess_comes_before_the_metric():

    def first_word(text, example=None, is_target=False):
        return text.split()[0]

    def make(rng, name):
        word = str(rng.random())
        return Example(name, word, f"{word} reference", f"{word} teacher", "why")

    task = define_task("words", GeneratedSource(make, {"train": 20}), label_postprocess_fn=first_word)
    assert task_statistics(task, vocabulary="bytes")["splits"]["train"]["teacher_accuracy"] == 1
