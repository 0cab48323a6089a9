"""Files as PowerShell and Notepad save them are read: with a byte order mark, and in UTF-16."""

import json

import pytest

from distill_jax.config import Sources, TrainConfig, build
from distill_jax.errors import UserError
from distill_jax.teachers.demonstrations import read_demonstrations
from distill_jax.teachers.prices import Price, price_of
from distill_jax.teachers.prompts import load_template
from distill_jax.teachers.rows import read_ids


def train_steps(**sources):
    return build(TrainConfig, Sources(**sources), model_dir="run", mixture_or_task_name="t").train_steps


READERS = {
    "demonstrations.jsonl": (
        json.dumps({"input": "q", "rationale": "r\u2028s", "label": "x"}, ensure_ascii=False) + "\n",
        lambda path: read_demonstrations(path)[0].rationale,
        "r\u2028s",
    ),
    "ids.txt": ("a\u2028b\n\n", read_ids, {"a\u2028b"}),
    "a.gin": ("TRAIN_STEPS = 3\n", lambda path: train_steps(gin_files=[path]), 3),
    "config.json": (json.dumps({"train_steps": 3}), lambda path: train_steps(config=path), 3),
    "prices.yaml": ("m: [1, 2]\n", lambda path: price_of("m", path), Price(1, 2)),
    "prompt.yaml": (
        'question: "Q: {input}"\nanswer: "{rationale} {label}"\n',
        lambda path: load_template(path).question,
        "Q: {input}",
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_encodings(tmp_path, name):
    text, read, expected = READERS[name]
    path = tmp_path / name
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(text, encoding=encoding)
        assert read(str(path)) == expected
    path.write_text("# é\n", encoding="latin-1")
    with pytest.raises(UserError, match=f"{path}: not UTF-8 text"):
        read(str(path))
    with pytest.raises(UserError, match="no such file"):
        read(str(tmp_path / f"no-{name}"))
