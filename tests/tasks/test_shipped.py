"""The shipped tasks on the real files, where these are there."""

import json
import os
import pathlib

import pytest

from distill_jax.data.originals import import_original
from distill_jax.data.prepare import prepare
from distill_jax.data.statistics import task_statistics
from distill_jax.tasks.registry import get_task, resolve

SHARED = pathlib.Path(os.environ.get("DISTILL_JAX_SHARED") or pathlib.Path(__file__).parents[3] / "shared")


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    if not (SHARED / "datasets").is_dir():
        pytest.skip("no data sets beside the repository")
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(SHARED / "datasets"))
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path))


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
    ("name", "rows", "accuracy", "equal_texts"),
    [
        ("svamp", {"train": 800, "test": 200}, {"train": 0.7350, "test": 0.7400}, None),
        # `Michigan` means the choice `michigan`; the release's own parser counts equal texts alone.
        (
            "cqa",
            {"train": 9741, "test": 1221},
            {"train": 0.7532, "test": 0.7821},
            {"train": 0.7426, "test": 0.7723},
        ),
    ],
)
def test_statistics(datasets, name, rows, accuracy, equal_texts):
    """Rows and teacher accuracy, by the task's equality of labels and by the release's own."""
    task = get_task(name)
    figures = task_statistics(task)["splits"]
    for split, expected in (equal_texts or {}).items():
        equal = sum(example.label == example.teacher_label for example in task.source.source.examples(split))
        assert round(equal / rows[split], 4) == expected
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
    prepared = prepare(
        *resolve("svamp_step_by_step"), "train", vocabulary="train:2000", task_feature_lengths=lengths
    )
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


def test_the_papers_split_of_svamp_from_the_original_file(datasets, tmp_path):
    counts = import_original("svamp", str(SHARED / "datasets/svamp/SVAMP.json"), str(tmp_path / "data"))
    assert counts == {"train": 800, "test": 200}
    for split in counts:
        name = f"svamp/svamp_{split}.json"
        ours, theirs = ((root / name).read_text() for root in (tmp_path / "data", SHARED / "datasets"))
        assert [json.loads(a) for a in ours.splitlines()] == [json.loads(b) for b in theirs.splitlines()]


def test_asdiv_adds_training_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(tmp_path))
    rows = {
        "svamp": [{"input": f"{n}?", "label": f"( {n} + 1 )"} for n in range(15)],
        "asdiv": [{"Body": "5 hens.", "Question": "How many?", "Answer": "5 (hens)", "Formula": "5=5"}] * 5,
    }
    for name, split in (("svamp", "train"), ("asdiv", "train"), ("svamp", "test")):
        (tmp_path / name / "llm").mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows[name])
        (tmp_path / name / f"{name}_{split}.json").write_text(lines)
        completions = json.dumps(["Five. The answer is (5)."] * len(rows[name]))
        (tmp_path / name / "llm" / f"{split}_CoT_0.json").write_text(completions)
    source = get_task("svamp_asdiv").source
    train = [e for split in ("train", "validation") for e in source.examples(split)]
    assert (len(train), len(list(source.examples("test")))) == (20, 15)
    added = [e for e in train if e.id.startswith("asdiv")]
    assert {(e.input, e.label, e.teacher_label) for e in added} == {("5 hens.\nHow many?", "5", "(5)")}
    assert get_task("svamp_asdiv").agrees(added[0])
