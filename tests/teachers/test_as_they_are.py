"""What endpoints really send, over HTTP, from the command line to the rows: a kind of trouble each test."""

import itertools
import json
import math
import os
import re
import signal
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from teacher_helpers import examples, lines, make_plan

from distill_jax.cli import main as cli
from distill_jax.data.schema import Example
from distill_jax.data.vocabularies import ByteVocabulary
from distill_jax.teachers import prices
from distill_jax.teachers.http_errors import error_message, status_error
from distill_jax.teachers.jobs import Job
from distill_jax.teachers.limits import CutPrompts
from distill_jax.teachers.messages import Answer, Reply, Request, Sampling, TeacherError, Token
from distill_jax.teachers.openai_reply import read_reply
from distill_jax.teachers.quality import as_bytes, read_sample
from distill_jax.teachers.records import as_text, records
from distill_jax.teachers.store import Key

GOOD = "It is an invoice. So the answer is billing."
CLASSES = ("--classes", "billing,shipping")


def body(message, finish="stop", usage=(9, 9), **choice):
    message = message if isinstance(message, dict) else {"role": "assistant", "content": message}
    told = {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}],
    }
    return told | (
        {"usage": dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))} if usage else {}
    )


class Run:
    """A run of `annotate` against a server that answers with `bodies`, by the row's input or one for all."""

    def __init__(self, loopback, folder, capsys):
        self._make, self._folder, self._capsys = loopback, folder, capsys

    def __call__(self, answers, *flags, rows=None, classes=CLASSES, url="/v1", expect=0):
        by_input = isinstance(answers, dict) and not {"choices", "error"} & set(answers)

        def respond(path, request):
            if not path.partition("?")[0].endswith("/completions"):
                return None
            asked = request["messages"][-1]["content"] if "messages" in request else request["prompt"]
            sent = answers(path, request) if callable(answers) else answers[asked] if by_input else answers
            return sent if sent is None or isinstance(sent, tuple) else (200, sent)

        self.server = self._make(respond=respond)
        data = self._folder / "rows.jsonl"
        inputs = rows or (list(answers) if by_input else ["r1"])
        data.write_text("".join(json.dumps({"id": str(n), "input": r}) + "\n" for n, r in enumerate(inputs)))
        self.output = self._folder / "o.jsonl"
        store = self._folder / "s.jsonl"
        more = ["--store", store, "--first-wait", "0.01", "--output", self.output, *classes, *flags]
        base = self.server.url.removesuffix("/v1") + url
        status = cli.main(["annotate", str(data), "--model", "m", "--base-url", base, *map(str, more)])
        self.told = self._capsys.readouterr()
        assert status == expect, self.told
        rows = {row["input"]: row for row in lines(self.output)} if self.output.exists() else {}
        self.store = lines(store)
        return rows


@pytest.fixture
def run(loopback, tmp_path, capsys):
    return Run(loopback, tmp_path, capsys)


# Labels.


def test_labels_in_marks(run):
    said = {"bold": "**1**", "plus": "+1", "falls": "-1", "number": "1.0"}
    answers = {name: body(f"It is so. So the answer is {label}.") for name, label in said.items()}
    rows = run(answers, classes=("--classes=-1, 0,1,",))
    assert [rows[name]["teacher_label"] for name in said] == ["1", "1", "-1", "1"]
    said = {"cpp": "`C++`", "sharp": "**C#**.", "c": "C", "plus": "C+"}
    answers = {name: body(f"It is so. So the answer is {label}.") for name, label in said.items()}
    rows = run(answers, classes=('--classes=["C", "C#", "C++"]',))
    assert [rows.get(name, {}).get("teacher_label") for name in said] == ["C++", "C#", "C", None]
    rows = run({"bare": body("**Billing**")})  # the answer is the label, and no more
    assert rows["bare"]["teacher_label"] == "billing" and "rationale" not in rows["bare"]


def test_reference_labels_that_are_no_class_are_counted(loopback, tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text('{"input": "x", "label": "Billing "}\n{"input": "y", "label": "odd"}\n')
    server = loopback(respond=lambda path, request: (200, body(GOOD)))
    flags = ["--model", "m", "--base-url", server.url, "--store", str(tmp_path / "s"), *CLASSES]
    assert cli.main(["annotate", str(data), *flags, "--output", str(tmp_path / "o")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"reference labels that are no class +1\n", out) and "0.5000 on 2 rows" in out


# Thinking and leftovers.


TEXT = {"type": "text"}
THOUGHT = "Maybe shipping. So the answer is shipping.\nNo, an invoice."


@pytest.mark.parametrize(
    "message",
    [
        f"<think>\n{THOUGHT}\n</think>\n{GOOD}",
        f"{THOUGHT}\n</think>\n{GOOD}",
        {"content": GOOD, "reasoning_content": THOUGHT},
        {"content": GOOD, "reasoning": THOUGHT},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                {"type": "text", "text": GOOD},
            ]
        },
        {"content": [{"type": "thinking", "thinking": THOUGHT}, GOOD]},
    ],
)
def test_thinking_is_stored_apart(run, message):
    row = run({"r": body(message)})["r"]
    assert (row["teacher_label"], row["rationale"]) == ("billing", "It is an invoice.")
    assert run.store[0]["thinking"] == THOUGHT and run.store[0]["text"].strip() == GOOD
    row = run({"r": body(message)}, "--rationale-from", "thinking")["r"]
    assert (row["teacher_label"], row["rationale"]) == ("billing", THOUGHT)
    assert run.server.count == 0  # the same completion, read another way


def test_thinking_alone_is_no_answer(run):
    unclosed = body(f"<think>\n{THOUGHT}", "length")
    apart = body({"content": None, "reasoning_content": THOUGHT}, "length")
    run({"a": unclosed, "b": apart, "c": body({"reasoning": THOUGHT})}, expect=1)
    assert [line["text"] for line in run.store] == ["", "", ""] and len(run.store) == 3
    assert "2 cut by the token limit (--max-tokens)" in run.told.err and "1 empty" in run.told.err


def test_control_tokens(run):
    ends = {"s": ".</s>", "im": "<|im_end|>", "eos": "<eos>", "eot": ".<|eot_id|>", "gemma": ".\n<end_of_turn>"}
    said = "It is an</s> invoice. So the answer is billing"
    rows = run({name: body(said + end) for name, end in ends.items()})
    for name in ends:
        assert (rows[name]["teacher_label"], rows[name]["rationale"]) == ("billing", "It is an< /s> invoice.")
        (ids,) = ByteVocabulary().encode_batch([rows[name]["rationale"]])
        assert 1 not in ids
    draft, answer = (json.dumps({"rationale": "x", "label": label}) for label in ("shipping", "billing"))
    structured = f"<think>{draft}</think>\n```json\n{answer}\n```"
    assert run({"j": body(structured)}, "--structured")["j"]["teacher_label"] == "billing"


# Cut, refused, empty.


def test_what_has_no_vote_is_counted_and_asked_for_again_with_another_limit(run, tmp_path):
    answers = {
        "cut": body("It is an invoice. So the answer is bil", "length"),
        "thought": body("Let us think", "max_tokens"),
        "filtered": body("So the answer is", "content_filter"),
        "refused": body({"content": None, "refusal": "I can't. So the answer is billing."}),
        "empty": body(""),
    }
    run(answers, "--report", tmp_path / "r.html", classes=(), expect=1)
    assert len(run.store) == 5 and run.server.count == 5
    figures = json.loads((tmp_path / "r.json").read_text())  # there is a report, though there are no rows
    assert figures["problems"] == {"cut": 0.4, "empty": 0.2, "refused": 0.4}
    assert "cut by the token limit" in (tmp_path / "r.html").read_text()
    for told in ("2 cut by the token limit (--max-tokens)", "2 refused", "1 empty"):
        assert told in run.told.err.splitlines()[-2] and told in run.told.err.splitlines()[-1]
    run(answers, classes=(), expect=1)
    assert run.server.count == 0
    run(body(GOOD), "--max-tokens", "512", rows=list(answers))
    assert run.server.count == 5


# A paid answer is never dropped for its wrapping.


def test_another_content_type(run):
    kind = {"Content-Type": "text/plain"}
    assert run(lambda path, request: (200, body(GOOD), kind))["r1"]["teacher_label"] == "billing"


def token(text, p=0.99, *others):
    top = [{"token": t, "logprob": math.log(q)} for t, q in ((text, p), *others)]
    return {"token": text, "logprob": math.log(p), "top_logprobs": top}


def content(**changes):
    listed = [
        token("It is an invoice."),
        token(" So the answer is"),
        token(" billing", 0.6, (" shipping", 0.4)),
    ]
    listed[2] |= changes
    return {"content": [*listed, token(".")]}


LEGACY = {
    "tokens": ["It is an invoice.", " So the answer is", " billing", "."],
    "token_logprobs": [-0.1, -0.1, -0.5, -0.1],
}
PAIR = {" billing": math.log(0.6), " shipping": math.log(0.4)}


@pytest.mark.parametrize(
    ("logprobs", "probs"),
    [
        (content(), [0.6, 0.4]),
        (
            LEGACY
            | {"token_logprobs": [-0.1, -0.1, math.log(0.6), None], "top_logprobs": [{}, {}, PAIR, None]},
            [0.6, 0.4],
        ),
        (content(top_logprobs=[{"token": " billing", "logprob": None}]), None),
        (LEGACY | {"top_logprobs": [[{"token": "a", "logprob": -1}]] * 4}, None),
        (LEGACY | {"top_logprobs": [{}]}, None),
        (content(logprob=float("nan")), None),
        (content(logprob=float("-inf")), None),
        (content(logprob=-9999.0), None),
        (content(logprob="many"), None),
        ([1, 2], None),
        ("none", None),
        ({"content": 5}, None),
        ({"tokens": None}, None),
        (
            content() | {"content": [*content()["content"][:2], token(" shipping", 0.6, (" billing", 0.4))]},
            None,
        ),
    ],
)
def test_odd_log_probabilities_are_left_out_and_counted(run, logprobs, probs):
    row = run(body(GOOD, logprobs=logprobs), "--logprobs", "5")["r1"]
    assert row["teacher_label"] == "billing"
    assert row.get("label_probs") == (None if probs is None else pytest.approx(probs, abs=1e-4))
    if probs is None:
        assert "without log-probabilities" in run.told.out


def test_tokens_that_are_parts_of_characters(run):
    text = "Late 😊 again. So the answer is shipping."
    pieces = [b"Late ", *(bytes([b]) for b in "😊".encode()), b" again. So the answer is", b" shipping", b"."]
    listed = [token(p.decode("utf-8", "replace")) | {"bytes": list(p)} for p in pieces]
    listed[-2] = token(" shipping", 0.6, (" billing", 0.4))
    row = run(body(text, logprobs={"content": listed}), "--logprobs", "5")["r1"]
    assert row["label_probs"] == pytest.approx([0.4, 0.6], abs=1e-4)


def stored_probs(text, tokens, classes):
    """`label_probs` by way of the store's line, for an answer of these tokens."""
    plan = make_plan(sampling=Sampling(logprobs=5))
    example = Example("1", "x", choices=tuple(classes))
    job = Job(Key("1", "p", "m", plan.sampling), Request(example, plan.prompt(example), plan.sampling))
    [line] = records(job, Reply([Answer(text, "stop", tuple(tokens))]), plan, "e", {"requests": 1}, 0.0)
    line = json.loads(json.dumps(line))
    return read_sample(line, classes, lambda label: plan.template.label_text(example, label, False))


LABELS = [
    ("billing", "shipping", "shopping"),
    ("1", "10", "9", "100"),
    ("はい", "いいえ"),
    ("a", "answer", "an"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["Because.", "Wegen 😊 “so”.", "billing or shipping?", "なぜなら"]),
    st.sampled_from(LABELS),
    st.data(),
)
def test_any_tokenization_gives_the_same_probabilities_or_none(reason, classes, data):
    """The label has 0.75, the others the rest alike, by any vocabulary of which the longest token is taken.

    A token that several labels begin with tells nothing of either. Where the label is cut, its first piece
    decides.
    """
    label = data.draw(st.sampled_from(classes))
    begun = f"{reason} So the answer is ".encode()
    answers = {option: f"{option}.".encode() for option in classes}
    pieces = [answer[:n] for answer in answers.values() for n in range(1, len(answer) + 1)]
    vocabulary = data.draw(st.sets(st.sampled_from(pieces))) | {answer[:1] for answer in answers.values()}
    first = {
        option: max((piece for piece in vocabulary if answer.startswith(piece)), key=len)
        for option, answer in answers.items()
    }
    ends = [0, *sorted(data.draw(st.sets(st.integers(1, len(begun)), max_size=6)))]
    before, lead = [begun[a:b] for a, b in itertools.pairwise(ends)], begun[ends[-1] :]
    shares: dict[bytes, float] = {}
    for option, piece in first.items():
        mass = 0.75 if option == label else 0.25 / (len(classes) - 1)
        shares[lead + piece] = shares.get(lead + piece, 0.0) + mass
    own, rest = lead + first[label], answers[label][len(first[label]) :]
    # Labels that share the first token part at the next, each by all that is left of it.
    left = {o: a[len(first[label]) :] for o, a in answers.items() if first[o] == first[label]}
    masses = {o: 0.75 if o == label else 0.25 / (len(classes) - 1) for o in left}
    then = {part: masses[o] / sum(masses.values()) for o, part in left.items()}
    listed = [({piece: 1.0}, piece) for piece in before] + [(shares, own)] + [(then, rest)] * bool(rest)
    tokens = [
        Token(
            as_text(piece),
            math.log(alternatives[piece]),
            {as_text(t): math.log(p) for t, p in alternatives.items()},
        )
        for alternatives, piece in listed
    ]
    text, raw = f"{reason} So the answer is {label}.", begun + answers[label]
    sample = stored_probs(text, tokens, classes)
    assert sample.label == label and b"".join(as_bytes(t.text) for t in tokens) == raw
    assert sample.probs or len(set(first.values())) < len(classes)
    if sample.probs is not None:
        expected = [0.75 if option == label else 0.25 / (len(classes) - 1) for option in classes]
        assert sample.probs == pytest.approx(expected, abs=1e-6)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "text", "type", "error", "usage", "logprobs", "code", "x"]
            )
            | st.sampled_from(
                ["finish_reason", "refusal", "tokens", "top_logprobs", "detail", "model", "id", "prompt_tokens"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(JSON, JSON, JSON, st.text(min_size=1, max_size=20))
def test_any_body_is_an_answer_or_a_teacher_error(anything, odd, usage, text):
    for sent in (anything, json.dumps(anything), {"choices": anything}, {"choices": [{"message": anything}]}):
        try:
            assert read_reply(sent).answers
        except TeacherError as error:
            assert "\n" not in str(error) and len(str(error)) < 500
    for status in (400, 404, 503):
        told = str(status_error(status, error_message(anything) or error_message(json.dumps(anything))))
        assert "\n" not in told and len(told) < 500
    choice = {"message": {"content": text, "refusal": None, "x": odd}, "finish_reason": odd, "logprobs": odd}
    reply = read_reply({"choices": [odd, choice], "usage": usage, "model": odd, "id": odd, "error": odd})
    assert text in [answer.text for answer in reply.answers]  # whatever stands around it
    plan = make_plan(sampling=Sampling(logprobs=5))
    row = examples(1)[0]
    job = Job(Key(row.id, "p", "m", plan.sampling), Request(row, plan.prompt(row), plan.sampling))
    for answer in reply.answers:
        [line] = records(job, Reply([answer]), plan, "e", {"requests": 1}, 0.0)
        read_sample(json.loads(json.dumps(line)), plan.classes, str)


# Nearly JSON.


def test_answers_that_are_nearly_json(run):
    said = {
        "linebreak": '{"rationale":"line one\nline two","label":"2"}',
        "number": '{"rationale":"3 of 4","label":3}',
        "empty": '{"label":"1","rationale":""}',
        "before": 'Here it is:\n```json\n{"rationale":"x","label":"1"}\n```\nHope it helps {smile}',
        "two": '{"rationale":"x","label":"1"}\n{"rationale":"y","label":"2"}',
        "list": '{"rationale":"x","label":["1"]}',
        "trailing": '{"rationale":"x","label":"1"}}',
        "bool": '{"rationale":"x","label":true}',
        "case": '{"Rationale":"x","Label":"1"}',
        "comma": '{"rationale":"x","label":"1",}',
        "one": '[{"rationale":"x","label":"1"}]',
    }
    rows = run(
        {name: body(text) for name, text in said.items()}, "--structured", classes=("--classes", "1,2,3")
    )
    labels = {name: rows[name]["teacher_label"] for name in said if name in rows}
    assert labels == {
        **dict.fromkeys(("empty", "before", "trailing", "case", "comma", "one"), "1"),
        **{"linebreak": "2", "number": "3"},
    }


# Files of lines.


def test_half_surrogate_pairs_and_a_report_that_cannot_be_written(run, tmp_path):
    answers = {"late": body("It is late \ud83d. So the answer is shipping."), "wrong": body(GOOD)}
    rows = run(answers, "--report", tmp_path / "r.html")
    assert rows["late"]["rationale"] == "It is late \ufffd." and len(rows) == 2
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == 2
    (tmp_path / "folder.html").mkdir()
    run(answers, "--report", tmp_path / "folder.html", expect=1)
    assert "folder.html: cannot be written" in run.told.err
    assert json.loads((tmp_path / "folder.json").read_text())["rows"] == 2  # the figures are there all the same


# Errors.


@pytest.mark.parametrize(
    "told",
    [
        [{"error": {"code": 400, "message": "Cannot find field."}}],
        {"detail": [{"loc": ["body", "x"], "msg": "Cannot find field."}]},
        {"detail": "Cannot find field."},
        {"error": "Cannot find field."},
        {"errors": [{"title": "Cannot find field."}]},
        {"error": {"message": '{"error": {"message": "Cannot find field."}}'}},
        "Cannot find field.",
        "<html><head><title>Cannot find field.</title></head></html>",
    ],
)
def test_the_body_s_own_words(run, told):
    run(lambda path, request: (400, told), expect=1)
    assert "Cannot find field." in run.told.err and "Traceback" not in run.told.err


MANY = [f"row {n}" for n in range(30)]


@pytest.mark.parametrize(
    ("answer", "told", "most"),
    [
        ((200, {"choices": None, "error": {"message": "No auth credentials", "code": 401}}), "No auth cred", 1),
        ((200, {"error": {"message": "Bad key", "code": "invalid_api_key"}}), "Bad key (a wrong key?", 1),
        ((401, {"error": {"message": "Bad key"}}), "--api-key-env", 1),
        ((404, {"error": {"message": "The model `m` does not exist"}}), "--model?", 1),
        ((404, {"detail": "Not Found"}), "does the address end in /v1?", 1),
        ((200, "<!doctype html><title>Open WebUI</title>"), "does the address end in /v1?", 3),
        ((400, {"error": {"message": "Unsupported value: 'temperature'"}}), "--temperature none", 3),
        ((400, {"error": {"message": 'Unknown name "stop": Cannot find field.'}}), "--omit stop", 3),
        ((400, {"message": "System role not supported"}), "--no-system", 3),
        ((400, {"message": "max_tokens is not supported"}), "--max-tokens-field", 3),
        ((400, {"message": "As there is no chat template"}), "--protocol completions", 3),
        ((400, {"message": "Missing required query parameter: api-version"}), "?api-version=", 3),
    ],
)
def test_what_no_request_can_pass_ends_the_run_after_the_first_few(run, answer, told, most):
    run(lambda path, request: answer, rows=MANY, expect=1)  # 32 at once, as by default
    assert told in run.told.err.splitlines()[-1]
    assert run.server.count <= most + 2  # `most`, unless these take longer than the head start of the first


def test_the_ways_out(run):
    flags = ["--omit", "stop,temperature", "--max-tokens-field", "max_output_tokens", "--no-system"]

    def respond(path, request):
        refused = {"stop", "temperature", "max_tokens", "max_completion_tokens"} & set(request)
        roles = {message["role"] for message in request["messages"]}
        if (
            refused
            or "system" in roles
            or request["max_output_tokens"] != 256
            or "api-version=2024" not in path
        ):
            return 400, {"message": f"refused {refused} {roles} {path}"}
        assert request["messages"][0]["content"].startswith("Read the text and answer.")
        return 200, body(GOOD)

    rows = run(respond, *flags, url="/openai/deployments/m?api-version=2024-06-01")
    assert rows["r1"]["teacher_label"] == "billing"


# Waits.


def test_a_wait_above_the_longest_ends_the_run(run):
    began = time.monotonic()
    run(lambda path, request: (429, {"error": "slow"}, {"Retry-After": "86400"}), rows=MANY, expect=3)
    assert "asks to wait 86,400 s, until 20" in run.told.err and "above --max-wait 600" in run.told.err
    assert "(Retry-After: HTTP 429: slow)" in run.told.err
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("value", ["inf", "-5", "nan", "-inf", "1e999"])
def test_what_is_no_wait(run, value):
    answers = iter([(429, {"error": "slow"}, {"Retry-After": value})])
    rows = run(lambda path, request: next(answers, (200, body(GOOD))))
    assert rows["r1"]["teacher_label"] == "billing"


def test_the_first_interrupt_ends_a_wait_that_was_told(run, caplog):
    timer = threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    run(lambda path, request: (429, {"error": "slow"}, {"Retry-After": "500"}), rows=MANY, expect=3)
    assert "asks to wait 500 s, until" in caplog.text and "stopped by SIGINT" in run.told.err
    assert time.monotonic() - began < 60  # of 500


# Money.


def test_missing_usage_counts_what_was_reserved_over_runs(run):
    flags = ["--budget-tokens", "1200", "--concurrency", "1"]
    run(body(GOOD, usage=None), *flags, rows=MANY, expect=3)
    first = run.server.count
    assert 0 < first < 6
    for _ in range(2):
        run(body(GOOD, usage=None), *flags, rows=MANY, expect=3)
        assert run.server.count == 0
    assert len(run.store) == first


def test_a_row_that_repeats_another_is_paid_and_counted_once(loopback, tmp_path, capsys):
    data, output, report = tmp_path / "rows.jsonl", tmp_path / "o.jsonl", tmp_path / "r.html"
    data.write_text('{"input": "x"}\n{"input": "y"}\n{"input": "x"}\n')
    server = loopback(respond=lambda path, request: (200, body(GOOD)))
    flags = ["--model", "m", "--base-url", server.url, "--store", str(tmp_path / "s"), "--output", str(output)]
    assert (
        cli.main(["annotate", str(data), *flags, *CLASSES, "--report", str(report), "--concurrency", "1"]) == 0
    )
    figures = json.loads((tmp_path / "r.json").read_text())
    assert server.count == 2 and (figures["requests"], figures["tokens"], figures["repeated"]) == (2, 36, 1)
    assert [row["id"] for row in lines(output)][0] == [row["id"] for row in lines(output)][2]


def test_prompts_that_a_server_cuts_are_told(caplog):
    notices = CutPrompts()
    for size in (400, 900, 1600, 2500):
        notices.look(size, size // 4)
    assert not caplog.text
    for size in (9000, 20_000, 12_000, 40_000):
        notices.look(size, 2048)
    assert caplog.text.count("counts 2048 tokens for prompts of 9000 to 20000 bytes") == 1


def test_prices_come_from_a_kept_table_with_its_day_or_yours(tmp_path):
    table = tmp_path / "p.yaml"
    table.write_text("gpt-4o-mini: [1, 2]\n", encoding="utf-16")
    assert prices.price_of("gpt-4o-mini", str(table)) == prices.Price(1.0, 2.0)
    assert re.fullmatch(r"genai-prices [\d.]+, on 20\d\d-\d\d-\d\d", prices.source_of(None, None))
    assert prices.source_of("1,2", None) == "--price" and prices.source_of(None, "p.yaml") == "p.yaml"
