"""From a file of chats to a served student that answers the same requests of the official client."""

import json
import pathlib
import shutil

import pytest

pytest.importorskip("aiohttp")

import distill_jax
from distill_jax.cli import main as cli
from distill_jax.config import ServeConfig, StoreExportConfig
from distill_jax.data.chat_forms import FIELD, ChatForms, forms_of, read_forms
from distill_jax.errors import UserError
from distill_jax.serving.app import Server
from distill_jax.serving.listen import in_background
from distill_jax.tasks import own
from distill_jax.teachers.rows import rows_of

openai = pytest.importorskip("openai")
SYSTEM = {"role": "system", "content": "Sort the mail."}
TURNS = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}]
ASK = {"role": "user", "content": [{"type": "text", "text": "A late parcel"}]}
FORM = "{rationale} So the answer is {label}."
JSON = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"required": ["rationale", "label"]}}}


def import_chats(folder, answer, *flags):
    """The rows of three chats, whose answers have that form."""
    said = {"rationale": "A delivery.", "label": "shipping"}
    text = json.dumps(said) if answer == "json" else answer.format(**said)
    chats = [[SYSTEM, ASK], [SYSTEM, *TURNS, ASK], [ASK]]
    lines = [{"messages": [*chat, {"role": "assistant", "content": text}]} for chat in chats]
    source, rows = folder / "chats.jsonl", folder / "rows.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    argv = ["data", "import", "chat", str(source), "--output", str(rows), "--answer", answer, *flags]
    assert cli.main(argv) == 0
    return chats, rows


def trained_on(rows, folder, made):
    """The folder of a student of these rows; untrained, as that of the folder `made`."""
    shutil.copytree(made, folder)
    path = pathlib.Path(folder, "run.json")
    run = json.loads(path.read_text())
    name = run["mixture_or_task_name"].replace("entailment", "rows")
    path.write_text(json.dumps(run | {"own_data": own.describe(str(rows)), "mixture_or_task_name": name}))
    return distill_jax.load(str(folder), batch_size=4)


def answers(predictor, chats, **settings):
    """(text, tokens of the prompt) of each chat, by the official client."""
    body = {"response_format": settings.pop("response_format")} if "response_format" in settings else {}
    with in_background(Server(predictor, ServeConfig(model_dir="-", name="m", **settings))) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        asked = [client.chat.completions.create(model="m", messages=chat, **body) for chat in chats]
    return [(answer.choices[0].message.content, answer.usage.prompt_tokens) for answer in asked]


@pytest.mark.parametrize(
    ("flags", "inputs"),
    [
        ((), ["A late parcel"] * 3),
        (
            ("--chat-format", r"{system}\n\n{user}"),
            [*["Sort the mail.\n\nA late parcel"] * 2, "A late parcel"],
        ),
        (
            ("--chat-format", "{system}\n{history}\n{user}"),
            [
                "Sort the mail.\n\nA late parcel",
                "Sort the mail.\nuser: Hello\nassistant: Yes?\nA late parcel",
                "A late parcel",
            ],
        ),
    ],
)
def test_a_served_student_answers_the_chats_of_its_file(make_run, tmp_path, flags, inputs):
    chats, rows = import_chats(tmp_path, FORM, *flags)
    assert [json.loads(line)["input"] for line in rows.read_text().splitlines()] == inputs
    predictor = trained_on(rows, tmp_path / "run", make_run("step_by_step"))
    direct = predictor.predict(inputs, rationale=True)
    prompts = [
        [view.inputs(distill_jax.data.schema.Example("", i)) for i in inputs]
        for view in predictor.student.views
    ]
    tokens = [sum(min(len(text.encode()) + 1, 160) for text in texts) for texts in zip(*prompts, strict=True)]
    texts = [FORM.format(rationale=p.rationale, label=p.label) for p in direct]
    assert answers(predictor, chats) == list(zip(texts, tokens, strict=True))
    if flags:  # the flag decides
        last = [tokens[-1]] * 3
        assert [n for _, n in answers(predictor, chats, chat_format="{user}", template="{label}")] != last
        found = answers(predictor, chats, chat_format="{user}", template="{rationale}{label}")
        assert [n for _, n in found] == last


def test_answers_in_json(make_run, tmp_path):
    chats, rows = import_chats(tmp_path, "json")
    predictor = trained_on(rows, tmp_path / "run", make_run("step_by_step"))
    [direct] = predictor.predict(["A late parcel"], rationale=True)
    for settings in ({}, {"response_format": JSON}, {"response_format": {"type": "json_object"}}):
        [(text, _), *_] = answers(predictor, chats, **settings)
        assert json.loads(text) == {"rationale": direct.rationale, "label": direct.label}


def test_a_stream_says_the_same(make_run):
    predictor = distill_jax.load(make_run("step_by_step"), batch_size=4)
    with in_background(Server(predictor, ServeConfig(model_dir="-", name="m"))) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        chat = {"model": "m:label", "messages": [ASK], "logprobs": True}
        whole = client.chat.completions.create(**chat)
        *chunks, usage = client.chat.completions.create(
            **chat, stream=True, stream_options={"include_usage": True}
        )
        deltas = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(deltas) == whole.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[0].choices[0].logprobs.to_dict() == whole.choices[0].logprobs.to_dict()
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
        assert usage.usage == whole.usage and not usage.choices
        prompt = {"model": "m:label", "prompt": ["A late parcel"]}
        texts = [chunk.choices[0].text for chunk in client.completions.create(**prompt, stream=True)]
        assert "".join(texts) == client.completions.create(**prompt).choices[0].text
        with pytest.raises(openai.BadRequestError, match="n: expected up to 16"):
            client.chat.completions.create(**chat, stream=True, n=17)


def test_a_student_without_rationales_answers_with_its_label(make_run, tmp_path, caplog):
    chats, rows = import_chats(tmp_path, FORM)
    predictor = trained_on(rows, tmp_path / "run", make_run("standard"))
    [direct] = predictor.predict(["A late parcel"])
    assert answers(predictor, chats)[0][0] == direct.label
    assert "this student has no rationale" in caplog.text


def test_the_forms_stay_with_the_rows(tmp_path):
    _, rows = import_chats(tmp_path, FORM, "--chat-format", "{system}: {user}")
    forms = ChatForms("{system}: {user}", FORM)
    assert (
        forms_of(str(rows)) == forms == rows_of(StoreExportConfig(source=str(rows), output="", store="")).chat
    )
    assert read_forms(own.describe(str(rows))[FIELD]) == forms
    (tmp_path / "own.jsonl").write_text('{"input": "x", "label": "y", "chat": {"input": 3, "answer": null}}\n')
    assert forms_of(str(tmp_path / "own.jsonl")) is None and forms_of(str(tmp_path / "none.jsonl")) is None
    for form, told in (
        ("{system}", "expected {user}"),
        ("{user} {x}", "no fields but"),
        ("{user", "write a brace"),
    ):
        with pytest.raises(UserError, match=told):
            ChatForms(form)
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}
    with pytest.raises(ValueError, match="text only"):
        ChatForms().text([image])
