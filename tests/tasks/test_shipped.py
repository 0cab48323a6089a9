"""The shipped tasks on the real files, where these are there."""

import os
import pathlib

import pytest

from distill_jax.data import registry
from distill_jax.data.prepare import prepare
from distill_jax.data.statistics import task_statistics

SHARED = pathlib.Path(os.environ.get("DISTILL_JAX_SHARED") or pathlib.Path(__file__).parents[3] / "shared")


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    if not (SHARED / "datasets").is_dir():
        pytest.skip("no data sets beside the repository")
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(SHARED / "datasets"))
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path))


def get_task(name):
    with registry.without_seqio():
        return registry.get_task(name)


def test_svamp_rows(datasets):
    example = next(get_task("svamp").source.source.examples("train"))
    assert "\n" in example.input
    assert example.label.startswith("( ")
    assert example.teacher_label.startswith("(")
    assert "Q:" not in example.rationale


def test_cqa_rows(datasets):
    example = next(get_task("cqa").source.source.examples("test"))
    question, *choices = example.input.split("\n")
    assert question.endswith("?")
    assert choices[0] == "Answer Choices:"
    assert [choice[:4] for choice in choices[1:]] == ["(a) ", "(b) ", "(c) ", "(d) ", "(e) "]
    assert example.label in [choice[4:] for choice in choices[1:]]
    assert "So the answer is" not in example.rationale


@pytest.mark.parametrize(
    ("name", "rows", "accuracy"),
    [
        ("svamp", {"train": 800, "test": 200}, {"train": 0.7350, "test": 0.7400}),
        ("cqa", {"train": 9741, "test": 1221}, {"train": 0.7426, "test": 0.7723}),
    ],
)
def test_statistics(datasets, name, rows, accuracy):
    """Rows and teacher accuracy that the release's own parser finds."""
    figures = task_statistics(name)["splits"]
    assert {split: f["rows"] for split, f in figures.items()} == rows
    rounded = {split: round(f["teacher_accuracy"], 4) for split, f in figures.items()}
    assert rounded == accuracy
    assert figures["train"]["validation_rows"] == -(-rows["train"] // 10)
    assert figures["train"]["packing_fill"]["encoder"] >= 0.97


def test_splits_share_no_row_and_lose_none(datasets):
    source = get_task("cqa").source
    ids = {s: {e.id for e in source.examples(s)} for s in ("train", "validation")}
    assert not ids["train"] & ids["validation"]
    assert len(ids["train"] | ids["validation"]) == 9741


def test_prepared_svamp(datasets):
    lengths = {"inputs": 512, "targets": 320}
    prepared = prepare("svamp_step_by_step", "train", vocabulary="train:2000", task_feature_lengths=lengths)
    manifest = prepared.manifest
    assert manifest["examples"] == manifest["views"]["label"] == 720
    assert manifest["views"]["rationale"] + manifest["without_target"]["rationale"] == 720
    assert manifest["encoder_fill"] >= 0.97


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("( 8 / 2 )", "( 8 / 2 )"),
        ("((29/2) and (30/2))", "((30/2))"),
        ("(34 + 40) and (62 - 17)", "(62 - 17)"),
        ("(", "("),
    ],
)
def test_one_equation(text, expected):
    assert get_task("svamp").label_postprocess_fn(text) == expected
