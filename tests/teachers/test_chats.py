"""Files of chats as rows: `distill-jax data import chat`."""

import json

import pytest
from teacher_helpers import lines

from distill_jax.cli import main as cli
from distill_jax.data.chat_forms import ChatForms
from distill_jax.serving.requests import ChatRequest

ASK = {"role": "user", "content": "late parcel"}
SYSTEM = {"role": "system", "content": "Sort."}
ANSWER = "It is about a delivery. So the answer is shipping."
SAID = {"role": "assistant", "content": ANSWER}
COMPLETION = {"id": "c", "choices": [{"message": SAID, "finish_reason": "stop"}]}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8-sig")
    return str(path)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (
            {
                "messages": [
                    SYSTEM,
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": "?"},
                    ASK,
                    SAID,
                ]
            },
            None,
        ),
        ({"messages": [SYSTEM, ASK, SAID | {"weight": 1}], "tools": []}, None),
        ({"messages": [ASK | {"content": [{"type": "text", "text": "late parcel"}]}, SAID]}, None),
        (
            {
                "input": {"messages": [SYSTEM, ASK], "tools": []},
                "preferred_output": [SAID],
                "non_preferred_output": [],
            },
            None,
        ),
        ({"messages": [ASK], "reference_answer": ANSWER}, None),
        ({"prompt": "late parcel", "completion": ANSWER}, None),
        (COMPLETION | {"id": "chatcmpl-1", "messages": [SYSTEM, ASK]}, "chatcmpl-1"),
        ({"id": 7, "request": {"messages": [ASK]}, "response": COMPLETION}, "7"),
        ({"id": "r", "input": [ASK], "choices": COMPLETION["choices"]}, "r"),
        ({"id": "x", "custom_id": "row-1", "response": {"status_code": 200, "body": COMPLETION}}, "row-1"),
    ],
)
def test_every_form_of_a_chat(tmp_path, capsys, line, name):
    source, output = write(tmp_path / "chats.jsonl", line), tmp_path / "rows.jsonl"
    requests = write(tmp_path / "r.jsonl", {"custom_id": "row-1", "body": {"messages": [SYSTEM, ASK]}})
    flags = [
        "--answer",
        "{rationale} So the answer is {label}.",
        "--output",
        str(output),
        "--requests",
        requests,
    ]
    assert cli.main(["data", "import", "chat", source, *flags]) == 0
    row = {"input": "late parcel", "label": "shipping", "rationale": "It is about a delivery."}
    made_by = {"chat": {"input": "{user}", "answer": "{rationale} So the answer is {label}."}}
    assert lines(output) == [({} if name is None else {"id": name}) | row | made_by]
    assert capsys.readouterr().out == f"{output}: 1 rows\n"
    if "messages" in line and line["messages"][-1] == SAID:  # what the served student reads of the same chat
        asked = ChatRequest(model="m", messages=line["messages"][:-1])
        assert asked.texts(ChatForms()) == ("late parcel",)


def test_what_is_left_out_or_has_no_label_is_counted(tmp_path, capsys):
    rows = [{"messages": [ASK, {"role": "assistant", "content": text}]} for text in ("shipping", "")]
    rows += [{"messages": [SYSTEM]}, {"messages": [ASK]}, {"x": 1}, {"messages": "none"}]
    source, output = write(tmp_path / "chats.jsonl", *rows), tmp_path / "rows.jsonl"
    assert cli.main(["data", "import", "chat", source, "--output", str(output)]) == 0
    assert [row.get("label") for row in lines(output)] == ["shipping", None, None]
    told = capsys.readouterr().err
    assert "3 lines left out: expected one of the role `user`" in told
    assert "2 chats without an answer: rows without a label" in told
    flags = ["--output", str(tmp_path / "others.jsonl"), "--answer", "{rationale} Queue: {label}"]
    assert cli.main(["data", "import", "chat", source, *flags]) == 0
    assert "1 answers not of the form '{rationale} Queue: {label}'" in capsys.readouterr().err


def test_mistakes(tmp_path, capsys):
    batch = {"custom_id": "row-1", "response": {"status_code": 200, "body": COMPLETION}}
    source, output = write(tmp_path / "chats.jsonl", batch), str(tmp_path / "rows.jsonl")
    for argv, told in (
        ([source], "data import chat needs --output"),
        ([source, "--output", output], "no chats in this file; the results of a batch need --requests FILE"),
        ([source, "--output", output, "--answer", "{rationale}"], "expected {label}, a form"),
        ([source, "--output", output, "--answer", "{rationale} {label} {x"], "write a brace as"),
    ):
        assert cli.main(["data", "import", "chat", *argv]) == 1
        assert told in capsys.readouterr().err
    assert not (tmp_path / "rows.jsonl").exists()
    assert cli.main(["data", "import", "svamp"]) == 1
    assert "needs --from and --data-dir" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["chats.jsonl", "notes.txt"])
def test_no_file_is_written_over_not_even_the_one_that_is_read(tmp_path, capsys, name):
    chats = write(tmp_path / "chats.jsonl", {"messages": [ASK, SAID]})
    write(tmp_path / "notes.txt", "precious")
    before = (tmp_path / name).read_bytes()
    assert cli.main(["data", "import", "chat", chats, "--output", str(tmp_path / name)]) == 1
    assert f"{name}: is there already" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == before
