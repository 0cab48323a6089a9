"""The readers of rows, chats, a teacher's answers, its store, and predictions; with whole inputs of each."""

import io
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow
import pyarrow.parquet

from distill_jax.config import ImportConfig
from distill_jax.data.chat_forms import forms_of
from distill_jax.data.completions.svamp import parse_svamp
from distill_jax.data.originals import svamp_rows
from distill_jax.data.sources import JoinedSource, ReferenceSource, table_of
from distill_jax.data.sources.tables import TextLines
from distill_jax.data.sources.text import TextSource
from distill_jax.decoding.output import open_output
from distill_jax.evaluation.comparison import compare_files
from distill_jax.experiments.fuzz.target import Target, as_json, lines
from distill_jax.teachers import parsing
from distill_jax.teachers.chats import import_chats
from distill_jax.teachers.demonstrations import read_demonstrations
from distill_jax.teachers.rows import read_ids
from distill_jax.teachers.store import Store

ROWS = (
    {"id": "a", "input": "3 pens and 4?", "label": "7", "rationale": "3 + 4 = 7.", "choices": ["7", "8"]},
    {
        "id": "b",
        "input": "Ünï\u2028",
        "label": 1,
        "teacher_label": "1.0",
        "label_probs": [0.5, 0.5],
        "choices": None,
    },
    {"id": 3, "input": "x</s>y", "label": True, "rationale": None},
)

TEXT = (b"One line.\nAnother \xc3\xa9.\n\n  \nLast", "UTF-16 text\nof two lines\n".encode("utf-16"))

PREDICTION = {"id": "a", "input": "x", "label": "1", "predicted_label": "1", "correct": True}


def _read_table(path: pathlib.Path) -> None:
    table = table_of(path)
    list(table({"train": [path]}, needs_target=False).examples("train"))
    list(table({"all": [path]}, {"rationale": "rationale"}, classes=["7", "8"]).inputs("all"))
    forms_of(str(path))


def _read_text(path: pathlib.Path) -> None:
    list(TextSource([path]).examples("train"))
    list(TextLines({"all": [path]}).inputs("all"))


def _parquet() -> tuple[bytes, ...]:
    whole = {
        "input": ["a b", "ü"],
        "label": ["1", None],
        "choices": [["1"], None],
        "label_probs": [[0.5], [1.0]],
    }
    contents = []
    for table in (whole, {"input": ["a"], "label": [3], "day": [pyarrow.scalar(0, pyarrow.date32()).as_py()]}):
        with io.BytesIO() as file:
            pyarrow.parquet.write_table(pyarrow.table(table), file, compression="NONE")
            contents.append(file.getvalue())
    return tuple(contents)


def _read_joined(path: pathlib.Path) -> None:
    source = table_of("a.jsonl")({"train": [path.with_name("rows.jsonl")]}, needs_target=False)
    list(JoinedSource(source, str(path), parse_completion=parsing.parser("json")).examples("train"))


def _read_reference(path: pathlib.Path) -> None:
    def row(values: Mapping[str, Any]) -> tuple[Any, Any]:
        return values["input"], values["label"]

    source = ReferenceSource(
        "set", row, parse_svamp, data_dir=path.parents[1 if path.parent.name == "set" else 2]
    )
    list(source.examples("train"))


def _reference(folder: pathlib.Path) -> None:
    (folder / "set" / "llm").mkdir(parents=True)
    (folder / "set" / "set_train.json").write_bytes(lines({"input": "1 + 1?", "label": "( 1 + 1 )"}))
    (folder / "set" / "llm" / "train_CoT_0.json").write_text(
        json.dumps(["2. The answer is (1 + 1).\n\nQ: more"])
    )


ANSWERS = (
    "3 and 4. The answer is (3 + 4).\n\nQ: more",
    "Because. So the answer is (b) two.",
    "So the answer is yes.",
)

ANSWERS += (
    "Why.\nAnswer: neutral",
    '{"rationale": "why", "label": 3}',
    '```json\n{"label": "a",}\n```',
    "<think>x</think>",
)

PARSERS = (*parsing.REFERENCE, parsing.JSON, f"{parsing.FORM}{{rationale}} So it is {{label}}.")


def _read_answer(path: pathlib.Path) -> None:
    text = path.read_bytes().decode(errors="surrogateescape")
    for name in PARSERS:
        parsing.parser(name)(text)


COMPLETION = {
    "id": "a",
    "sample": 0,
    "prompt": "p",
    "model": "m",
    "sampling": {"temperature": 0.0},
    "text": "x",
}

COMPLETION |= {"usage": {"prompt_tokens": 3, "completion_tokens": 4}, "requests": 1, "usd": 0.1}


def _read_store(path: pathlib.Path) -> None:
    path = path.with_name("store.jsonl")
    with Store(path) as store:
        store.read("a")
        list(store.spent)


def _store(folder: pathlib.Path) -> None:
    path = folder / "store.jsonl"
    if not path.exists():
        path.write_bytes(lines(COMPLETION, COMPLETION | {"id": "b", "sample": 1}))
    _read_store(path)


def _read_store_lines(path: pathlib.Path) -> None:
    path.with_name("store.jsonl.index").unlink(missing_ok=True)
    _read_store(path)


SETTINGS = {"model_dir": "/run", "step": 1, "columns": {"input": "input"}, "temperature": 0.0}


def _read_output(path: pathlib.Path) -> None:
    with open_output(str(path.with_name("out.jsonl")), SETTINGS) as output:
        list(output.rows())


def _output(folder: pathlib.Path) -> None:
    with open_output(str(folder / "out.jsonl"), SETTINGS) as output:
        output.append([{"input": "a", "predicted_label": "1"}, {"input": "b", "predicted_label": "2"}])


def _read_chats(path: pathlib.Path) -> None:
    output = path.with_name("rows.out")
    output.unlink(missing_ok=True)
    import_chats(ImportConfig(name="chat", file=str(path), output=str(output), requests=str(path)))


CHATS = (
    {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a"},
        ]
    },
    {"custom_id": "1", "body": {"messages": [{"role": "user", "content": [{"type": "text", "text": "u"}]}]}},
    {
        "custom_id": "1",
        "response": {"body": {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}},
    },
    {"prompt": "p", "completion": "c"},
    {
        "input": {"messages": [{"role": "user", "content": "u"}]},
        "preferred_output": [{"role": "assistant", "content": "a"}],
    },
)


def _read_predictions(path: pathlib.Path) -> None:
    compare_files(str(path), str(path), resamples=10, seed=0)


def _csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"id,input,label,choices\n" + b"".join(
        f'{row["id"]},"{row["input"]}",{row["label"]},"[""7"", ""8""]"\n'.encode() for row in rows
    )


TARGETS: dict[str, Target] = {
    "rows, JSONL": Target(_read_table, "rows.jsonl", (lines(*ROWS),), "lines"),
    "rows, CSV": Target(_read_table, "rows.csv", (_csv(ROWS),)),
    "rows, Parquet": Target(_read_table, "rows.parquet", _parquet()),
    "rows, text": Target(_read_text, "rows.txt", TEXT),
    "rows, joined": Target(
        _read_joined,
        "answers.jsonl",
        (
            lines(
                {"id": "a", "rationale": "why", "teacher_label": "7"},
                {"id": "b", "completion": '{"label": "1"}'},
            ),
        ),
        "lines",
        make=lambda folder: (folder / "rows.jsonl").write_bytes(lines(*ROWS)),
    ),
    "rows, paper's layout": Target(_read_reference, "set/set_train.json", form="lines", make=_reference),
    "completions, paper's layout": Target(
        _read_reference, "set/llm/train_CoT_0.json", form="json", make=_reference
    ),
    "SVAMP.json": Target(
        svamp_rows, "SVAMP.json", as_json([{"Body": "a", "Question": "b", "Equation": "c"}]), "json"
    ),
    "chats": Target(_read_chats, "chats.jsonl", (lines(*CHATS),), "lines"),
    "answers of a teacher": Target(
        _read_answer, "a.txt", tuple(text.encode() for text in ANSWERS), named=False
    ),
    "demonstrations": Target(
        lambda path: read_demonstrations(str(path)), "d.jsonl", (lines({**ROWS[0], "label": "7"}),), "lines"
    ),
    "ids": Target(lambda path: read_ids(str(path)), "ids.jsonl", (lines({"id": "a"}, {"id": 3}),), "lines"),
    "store, lines": Target(
        _read_store_lines, "store.jsonl", (lines(COMPLETION, COMPLETION | {"sample": 1}),), "lines"
    ),
    "store, index": Target(_read_store, "store.jsonl.index", make=_store),
    "infer's output": Target(_read_output, "out.jsonl", form="lines", make=_output),
    "infer's settings": Target(_read_output, "out.jsonl.settings.json", form="json", make=_output),
    "predictions": Target(
        _read_predictions, "p.jsonl", (lines(PREDICTION, PREDICTION | {"id": "b"}),), "lines"
    ),
}
