"""Students of different data, teachers and vocabularies in one process, in turns and in several threads."""

import concurrent.futures
import json

import pytest

from distill_jax.checkpoints import run_dir
from distill_jax.config import TrainConfig
from distill_jax.decoding.predictor import Predictor
from distill_jax.decoding.student import load_student
from distill_jax.training import trainer

pytestmark = pytest.mark.slow
SHAPE = dict(emb_dim=16, num_heads=2, num_encoder_layers=1, num_decoder_layers=1, head_dim=8, mlp_dim=32)
CLASSES = {"a": ["yes", "no"], "b": ["red", "green"]}
INPUTS = ["thing 3", "thing 14", "thing 15"]


def train(folder, **options):
    common = {"train_steps": 2, "batch_size": 2, "vocab_size": 512, "eval_period": 0}
    common |= {"model_dir": str(folder), "task_feature_lengths": {"inputs": 64, "targets": 32}, **SHAPE}
    trainer.train(TrainConfig(**common | options))


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", "/no/such/folder")  # read as a default only
    monkeypatch.setenv("DISTILL_JAX_TEACHER", "nobody")


def own_student(root, name):
    """The folder of a run that was trained on `<root>/<name>/train.jsonl`."""
    folder = root / name
    folder.mkdir()
    one, two = CLASSES[name]
    rows = [
        {"id": f"{name}{n}", "input": f"thing {n}", "label": (one, two)[n % 2], "rationale": f"It is {n}."}
        for n in range(20)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vocabulary = {"a": "bytes", "b": "train:300"}[name]
    scored = {"eval_period": 2, "eval_examples": 2}
    data = {"data": str(folder / "train.jsonl"), "classes": tuple(CLASSES[name])}
    train(root / f"run-{name}", vocabulary=vocabulary, **data, **scored)
    return str(root / f"run-{name}")


def test_two_files_of_one_name(tmp_path):
    """Trained from two threads at once; then loaded side by side, and asked in turns and from threads."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = dict(zip("ab", pool.map(lambda name: own_student(tmp_path, name), "ab"), strict=True))
    students = {name: load_student(run) for name, run in runs.items()}
    for name, student in students.items():
        assert student.task.name == "train" and student.task.classes == tuple(CLASSES[name])
        assert {e.id[0] for e in student.task.source.examples("train")} == {name}
        assert run_dir.load(runs[name]).vocabulary == student.vocabulary.fingerprint
    assert len({student.vocabulary.fingerprint for student in students.values()}) == 2

    predictors = {name: Predictor(run, batch_size=4) for name, run in runs.items()}

    def ask(name):
        return predictors[name].predict(INPUTS, rationale=True, label_by="rank")

    expected = {name: ask(name) for name in "ab"}
    for name in "ab":
        assert all(set(prediction.label_probs) == set(CLASSES[name]) for prediction in expected[name])
    order = "abbabaab"
    assert [ask(name) for name in order] == [expected[name] for name in order]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, order)) == [expected[name] for name in order]


def release(folder, teacher, word):
    """SVAMP in the paper's layout, with this teacher's completions."""
    for split in ("train", "test"):
        rows = [{"input": f"{n} birds?", "label": f"( {n} + 1 )"} for n in range(20)]
        (folder / "svamp" / teacher).mkdir(parents=True, exist_ok=True)
        (folder / "svamp" / f"svamp_{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        said = [f"{word} {n}. The answer is ({n} + 1)." for n in range(20)]
        (folder / "svamp" / teacher / f"{split}_CoT_0.json").write_text(json.dumps(said))


def test_two_teachers_and_two_data_folders(tmp_path):
    """The run with teacher `gpt` comes first, and changes nothing for the others."""
    cases = {"gpt": ("one", "Think"), "llm": ("one", "Count"), "claude": ("two", "Reason")}
    for teacher, (folder, word) in cases.items():
        release(tmp_path / folder, teacher, word)
    runs = {}
    for teacher, (folder, _) in cases.items():
        runs[teacher] = tmp_path / f"run-{teacher}"
        train(
            runs[teacher],
            mixture_or_task_name="svamp_step_by_step",
            vocabulary="bytes",
            data_dir=str(tmp_path / folder),
            teacher=teacher,
        )
    assert len({run_dir.load(str(run)).data for run in runs.values()}) == 3
    students = {t: load_student(str(run), str(tmp_path / cases[t][0])) for t, run in runs.items()}

    def rationales(teacher):
        return [example.rationale for example in students[teacher].task.source.examples("test")]

    order = ("gpt", "claude", "llm") * 4
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for teacher, found in zip(order, pool.map(rationales, order), strict=True):
            assert found == [f"{cases[teacher][1]} {n}." for n in range(20)]
