import asyncio
import json
import subprocess
import sys
import types

import pytest
from loopback_teacher import answer
from teacher_helpers import KEY, examples, lines, make_plan

from distill_jax.config.annotation import LimitOptions
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers.annotator import Annotator
from distill_jax.teachers.clients import make_client
from distill_jax.teachers.http_errors import error_message, retry_after, status_error
from distill_jax.teachers.messages import Prompt, Request, Sampling, TeacherError, Token
from distill_jax.teachers.openai_client import OpenAIClient
from distill_jax.teachers.openai_reply import read_reply

PROMPT = Prompt("Sort.", (("one", "1"),), "two", {"type": "object"})


def run(client, rows, store, plan):
    return asyncio.run(Annotator(client, plan, store, LimitOptions(first_wait=0.01, attempts=9)).run(rows))


# OpenAI's protocol.


def body(protocol="chat", sampling=None, samples=(0,), prompt=PROMPT, **options):
    client = OpenAIClient("m", "http://127.0.0.1:1/v1", protocol, **options)
    return client.body(Request(Example("1", "x"), prompt, sampling or Sampling(), samples))


def test_a_chat_request():
    sampling = Sampling(0.5, 0.9, 64, ("\n\n",), 7, 4, {"user": "me"})
    assert body(sampling=sampling, samples=(2, 3)) == {
        "model": "m",
        "max_tokens": 64,
        "messages": PROMPT.messages(),
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["\n\n"],
        "seed": 9,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 4,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
        },
        "user": "me",
    }


def test_a_completions_request():
    prompt = Prompt("", (("one", "1"),), "two")
    sent = body("completions", Sampling(temperature=None, logprobs=3), prompt=prompt)
    assert sent == {"model": "m", "max_tokens": 256, "prompt": "one 1\n\ntwo", "logprobs": 3}


def test_openais_own_endpoint_has_another_name_for_max_tokens(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    client = OpenAIClient("m")
    sent = client.body(Request(Example("1", "x"), PROMPT, Sampling()))
    assert client.endpoint == "https://api.openai.com/v1/"
    assert sent["max_completion_tokens"] == 256 and "max_tokens" not in sent


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        "text",
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [5, None]},
    ],
)
def test_what_is_no_completion_may_be_asked_for_again(reply):
    with pytest.raises(TeacherError) as raised:
        read_reply(reply)
    assert raised.value.transient and not raised.value.fatal


def test_replies_of_plain_servers():
    reply = read_reply({"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]})
    assert (reply.answers[0].text, reply.answers[0].finish, reply.prompt_tokens) == (
        "x",
        "length",
        None,
    )
    refused = {"choices": [{"message": {"content": None, "refusal": "I will not."}}]}
    assert read_reply(refused).answers[0].text == "I will not."


@pytest.mark.parametrize("protocol", ["chat", "completions"])
def test_log_probabilities_become_class_probabilities(loopback, store, protocol):
    """The loopback gives each other class 0.1."""
    from distill_jax.teachers.export import verdicts
    from distill_jax.teachers.rows import Rows

    server, rows = loopback(), examples(3)
    plan = make_plan(protocol, Sampling(logprobs=5))
    outcome = run(OpenAIClient("teacher-1", server.url, protocol), rows, store, plan)
    assert outcome.stored == 3
    told = Rows("x", "default", lambda: iter(rows), plan.classes, str.__eq__, None, "train")
    for verdict, stored in verdicts(told, iter(rows), lambda row: store.read(row.id), plan.template):
        label = verdict.example.teacher_label
        expected = [0.8 if label == c else 0.1 for c in plan.classes]
        assert verdict.example.label_probs == pytest.approx(expected, abs=1e-4)
        assert len(stored[0]["tokens"]) == 2  # the label and the full stop: not the reason's


def test_a_status_and_what_it_means():
    assert [status_error(s, "").transient for s in (400, 401, 404, 408, 409, 422, 429, 500, 503, 529)] == [
        *(False, False, False, True, True, False, True, True, True, True)
    ]
    assert [status_error(s, "").fatal for s in (400, 401, 403, 404, 429, 500)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    quota = status_error(429, "", code="insufficient_quota")
    assert quota.fatal and not quota.transient
    assert str(status_error(500, "a\n b" + "c" * 400)) == f"HTTP 500: a b{'c' * 287}…"


def test_retry_after():
    assert retry_after({"retry-after": "2"}) == 2.0
    assert retry_after({"retry-after-ms": "250", "retry-after": "2"}) == 0.25
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert 0 < retry_after({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"})
    assert retry_after({"retry-after": "soon"}) is None and retry_after({}) is None


# The others.


@pytest.mark.parametrize("name", ["anthropic", "gemini"])
def test_other_providers(loopback, store, monkeypatch, name):
    pytest.importorskip({"anthropic": "anthropic", "gemini": "google.genai"}[name])
    variable = {"anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}[name]
    with pytest.raises(UserError, match=variable):
        make_client(name, {"model": "m"})
    monkeypatch.setenv(variable, KEY)
    server = loopback(script=["", "500", "429", "cut"], echo=True)
    client = make_client(name, {"model": "m", "base_url": server.url.removesuffix("/v1"), "timeout": 5.0})
    outcome = run(client, examples(6), store, make_plan())
    assert (outcome.stored, outcome.failed, server.count) == (6, 0, 9)
    found = {line["id"]: line for line in lines(store.path)}
    for row in examples(6):
        assert found[row.id]["text"] == answer(row.input, {})
        assert found[row.id]["usage"]["prompt_tokens"] == 7
    sent = server.log[0]["body"]
    instruction = sent["system"] if name == "anthropic" else sent["systemInstruction"]["parts"][0]["text"]
    assert instruction.startswith("Read the text and answer.")
    limit = sent["max_tokens"] if name == "anthropic" else sent["generationConfig"]["maxOutputTokens"]
    assert limit == 256
    assert KEY not in store.path.read_text()


@pytest.mark.parametrize("name", ["anthropic", "gemini"])
def test_a_wrong_key_ends_the_run(loopback, store, monkeypatch, name):
    pytest.importorskip({"anthropic": "anthropic", "gemini": "google.genai"}[name])
    variable = {"anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}[name]
    monkeypatch.setenv(variable, KEY)
    server = loopback(key="another")
    client = make_client(name, {"model": "m", "base_url": server.url.removesuffix("/v1")})
    outcome = run(client, examples(50), store, make_plan())
    assert outcome.fatal and "HTTP 401" in outcome.stopped and KEY not in outcome.stopped


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("openai", "openai", "teachers"),
        ("anthropic", "anthropic", "anthropic"),
        ("gemini", "google.genai", "gemini"),
        ("transformers", "transformers", "transformers"),
    ],
)
def test_a_missing_package_names_the_extra(tmp_path, name, package, extra):
    data = tmp_path / "rows.jsonl"
    data.write_text('{"input": "x"}\n')
    code = (
        f"import sys\nsys.modules[{package!r}] = None\nfrom distill_jax.cli import main as cli\n"
        f"sys.exit(cli.main(['annotate', {str(data)!r}, '--client', {name!r}, '--model', 'm', '--store', 's']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and f"pip install 'distill_jax[{extra}]'" in done.stderr


@pytest.mark.parametrize(("package", "more"), [("pydantic", []), ("bm25s", ["--select", "nearest"])])
def test_without_the_extra_a_dry_run_names_it_too(tmp_path, package, more):
    data = tmp_path / "rows.jsonl"
    data.write_text('{"input": "x"}\n')
    flags = ["annotate", str(data), "--model", "m", "--prompt", "svamp", "--dry-run", *more]
    code = f"import sys\nsys.modules[{package!r}] = None\nfrom distill_jax.cli import main as cli\n"
    code += f"sys.exit(cli.main({flags!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert package in done.stderr and "pip install 'distill_jax[teachers]'" in done.stderr


def legacy(alternatives):
    tokens = {"tokens": ["x", "y"], "token_logprobs": [-0.1, None], "top_logprobs": alternatives}
    return {"choices": [{"message": {"content": "xy"}, "logprobs": tokens}]}


def test_bodies_that_differ_from_openais():
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    for message, text, finish in (
        (
            {"content": [thinking, {"type": "text", "text": "It is"}, {"type": "text", "text": " so."}]},
            "It is so.",
            "stop",
        ),
        ({"reasoning": "long"}, "", "stop"),
        ({"content": None, "refusal": "I will not."}, "I will not.", "refusal"),
    ):
        body = {"choices": [{"message": message, "finish_reason": "stop"}]}
        for sent in (body, json.dumps(body)):  # as JSON, and with another content type
            [answer] = read_reply(sent).answers
            assert (answer.text, answer.finish) == (text, finish)
    with pytest.raises(TeacherError, match="got text/html, not JSON; does the address end in /v1?"):
        read_reply("<!doctype html><html></html>")
    [answer] = read_reply(legacy([{"x": -0.1, "z": -2}, {}])).answers
    assert answer.tokens == (Token("x", -0.1, {"x": -0.1, "z": -2.0}), Token("y", 0.0, {}))
    for alternatives in ([[{"token": "x", "logprob": -1}]] * 2, [{}], [{"x": None}, {}]):
        assert read_reply(legacy(alternatives)).answers[0].tokens is None


def test_messages_of_errors():
    assert error_message({"message": "busy"}) == error_message({"error": "busy"}) == "busy"
    assert error_message([{"error": {"code": 400, "message": "Unknown name"}}]) == "Unknown name"
    assert error_message("timed out") == "timed out"
    assert error_message(None) == error_message([]) == error_message({"code": 1}) == ""


def test_the_name_of_max_tokens_that_an_endpoint_takes(loopback, monkeypatch):
    server, bodies = loopback(), []
    client = OpenAIClient("m", server.url)

    async def post(path, cast_to, body):
        bodies.append(body)
        if "max_tokens" in body:
            raise TeacherError("HTTP 400: Use 'max_completion_tokens' instead.")
        return {"choices": [{"message": {"content": "x"}}]}

    async def ask():
        request = Request(examples(1)[0], Prompt("", (), "q"), Sampling())
        return [(await client.complete(request)).answers[0].text for _ in range(2)]

    monkeypatch.setattr(client.sdk, "post", post)
    assert asyncio.run(ask()) == ["x", "x"]
    assert ["max_tokens" in body for body in bodies] == [True, False, False]


def test_an_unknown_client():
    with pytest.raises(UserError, match="one of openai, anthropic"):
        make_client("palm", {})


def test_a_student_as_the_teacher(store, monkeypatch):
    """An untrained student: what it says is nonsense, but its own, and in the right places."""
    from distill_jax.data.views import View
    from distill_jax.decoding import predictor

    student = _student(View("label", "label", "[label] "), View("rationale", "rationale", "[rationale] "))
    monkeypatch.setattr(predictor, "load_student", lambda folder, trusted: student)
    monkeypatch.setattr(predictor.checkpoints, "pick_step", lambda folder, step: int(step))
    rows = examples(5)
    client = make_client("checkpoint", {"model": "run@7", "batch_size": 2})
    plan = make_plan("checkpoint", parser=client.parser)
    assert run(client, rows, store, plan).stored == 5
    for view in student.views:
        expected = student.engine(7, 5).generate([view.inputs(row) for row in rows], 4)
        said = [json.loads(store.read(row.id)[0]["text"])[view.name] for row in rows]
        assert said == [hypotheses[0].text for hypotheses in expected]
    assert {line["parser"] for line in lines(store.path)} == {"json"}
    with pytest.raises(UserError, match="FOLDER@STEP"):
        make_client("checkpoint", {"model": "run@last"})
    outcome = run(client, rows, store, make_plan("checkpoint", Sampling(temperature=0.7)))
    assert outcome.fatal and "decodes greedily" in outcome.stopped
    student = _student(View("label", "label"))
    with pytest.raises(UserError, match="predicts no rationale"):
        make_client("checkpoint", {"model": "run@7"})


def test_an_engine_and_its_weights_are_of_a_student_of_ours(make_run):
    from distill_jax.config import AnnotateConfig
    from distill_jax.teachers.checkpoint_client import name_with_step
    from distill_jax.teachers.settings import client_of

    with pytest.raises(UserError, match="--engine and --weights need --client checkpoint"):
        client_of(AnnotateConfig(source="rows.jsonl", model="m", engine="ctranslate2"))
    run = make_run("step_by_step")
    options = {"client": "checkpoint", "engine": "ctranslate2", "weights": "bfloat16"}
    with pytest.raises(UserError, match="--engine ctranslate2: it has no bfloat16 weights"):
        client_of(AnnotateConfig(source="rows.jsonl", model=run, **options))
    assert name_with_step(run, "ctranslate2") == f"{run}@0"  # the same answers
    assert name_with_step(run, "ctranslate2", "int8") == f"{run}@0 int8 ctranslate2"


def _student(*views):
    from distill_jax.data.vocabularies import load_vocabulary
    from distill_jax.decoding.student import Student
    from distill_jax.models.config import T5Config
    from distill_jax.models.t5 import Transformer
    from distill_jax.training import train_state

    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    config = T5Config(vocab_size=384, emb_dim=8, num_heads=2, head_dim=4, mlp_dim=16, **layers)
    params = train_state.init_params(Transformer(config), 0)

    class Untrained(Student):
        def params(self, step=None, verify=True):
            assert step in (None, 7)
            return params

    lengths = {"inputs": 64, "targets": 4}
    run = types.SimpleNamespace(mixture_or_task_name="x_standard", task_feature_lengths=lengths)
    task = types.SimpleNamespace(classes=None)
    return Untrained("run", run, Transformer(config), load_vocabulary("bytes"), task, views)


@pytest.mark.slow
def test_a_local_model(tmp_path, store):
    """A tiny random GPT-2: against transformers' own generate, one text at a time."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    from distill_jax.teachers.transformers_client import TransformersClient

    folder = str(tmp_path / "gpt2")
    rows = examples(5)
    tokenizer = _word_tokenizer(transformers, rows)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=256,
        n_embd=16,
        n_layer=2,
        n_head=2,
        eos_token_id=1,
        bos_token_id=1,
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    client = TransformersClient(folder, batch_size=3)
    assert client.protocol == "completions"
    plan = make_plan("completions", Sampling(max_tokens=8, logprobs=2))
    outcome = run(client, rows, store, plan)
    assert (outcome.stored, outcome.failed) == (5, 0)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    for row in rows:
        inputs = tokenizer(plan.prompt(row).text(), return_tensors="pt")
        made = model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=0)
        expected = tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        (line,) = store.read(row.id)
        assert line["text"] == expected
        assert line["usage"]["prompt_tokens"] == inputs["input_ids"].shape[1]
    with pytest.raises(UserError, match="cannot be loaded"):
        TransformersClient(str(tmp_path / "none"))
    with pytest.raises(UserError, match="no chat template"):
        TransformersClient(folder, protocol="chat")


def _word_tokenizer(transformers, rows):
    import tokenizers

    words = sorted({w for row in rows for w in make_plan("completions").prompt(row).text().split()})
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[EOS]", "[UNK]", *words])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names)
