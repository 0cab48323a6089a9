"""transformers and CTranslate2 write the student's own greedy texts, by the code of its model card."""

import functools
import itertools
import re

import pytest

from distill_jax.config import ExportConfig
from distill_jax.decoding.student import load_student
from distill_jax.export.run import export

pytest.importorskip("torch", reason="for parity tests only")
pytest.importorskip("transformers", reason="for parity tests only")
ROWS = 12


def texts_of(folder, count=ROWS):
    source = load_student(str(folder)).task.source
    return [example for example in itertools.islice(source.examples("test"), count)]


@functools.cache
def own(folder, what, count):
    """Our greedy texts of the first test rows."""
    student, examples = load_student(str(folder)), texts_of(folder, count)
    view = next(view for view in student.views if view.name == what or view.answer)
    texts, length = [view.inputs(example) for example in examples], student.lengths["targets"]
    found = student.engine(None, 32).generate(texts, length, start=view.start)
    return [view.read(hypothesis.text)[what] for (hypothesis,) in found]


def card_code(folder):
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return code


def run_card(folder, monkeypatch):
    """What the card's code defines, once it has run in the folder."""
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(card_code(folder), "README.md", "exec"), names)
    return names


def check(run, to, tmp_path, monkeypatch, capsys, count=ROWS, **options):
    out = tmp_path / "out"
    export(ExportConfig(model_dir=str(run), to=to, output=str(out), **options))
    names = run_card(out, monkeypatch)
    assert capsys.readouterr().out.startswith("[")  # the card's own call
    examples = texts_of(run, count)
    agreement, written = {}, set()
    for what in names["PREFIXES"]:
        ours = own(run, what, count)
        theirs = names["predict"]([example.input for example in examples], what)
        agreement[what] = sum(map(str.__eq__, ours, theirs)) / count
        written.update(ours)
    assert len(written) > 3  # a student that says one thing proves little
    return agreement


CASES = [
    ("t5", "step_by_step"),
    ("tied t5", "step_by_step_shared"),
    ("umt5", "single_task"),
    ("byt5", "standard"),
    ("llama", "step_by_step"),
    ("qwen3", "step_by_step_shared"),
]
GEMMA = [("t5gemma", "step_by_step_shared"), ("t5gemma2", "step_by_step")]
WHATS = {"standard": ["label"]}


@pytest.fixture
def run(make_trained, make_random, kind, method):
    return make_trained() if kind == "t5" else make_random(kind, method)


@pytest.mark.parametrize("kind, method", CASES + GEMMA)
def test_transformers_writes_the_students_own_texts(run, tmp_path, monkeypatch, capsys, kind, method):
    whats = WHATS.get(method, ["label", "rationale"])
    assert check(run, "huggingface", tmp_path, monkeypatch, capsys) == dict.fromkeys(whats, 1.0)


@pytest.mark.parametrize("kind, method", CASES)
def test_ctranslate2_writes_the_students_own_texts(run, tmp_path, monkeypatch, capsys, kind, method):
    pytest.importorskip("ctranslate2", reason="for parity tests only")
    whats = WHATS.get(method, ["label", "rationale"])
    if kind == "tied t5":
        whats = ["label"]  # CTranslate2 has one first token of the decoder
    assert check(run, "ctranslate2", tmp_path, monkeypatch, capsys) == dict.fromkeys(whats, 1.0)
