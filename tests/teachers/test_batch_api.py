import asyncio
import json
import os
import signal
import threading

import pytest
from teacher_helpers import examples, lines, make_plan

from distill_jax.config.annotation import LimitOptions
from distill_jax.errors import UserError
from distill_jax.teachers.batch_api import BatchAnnotator
from distill_jax.teachers.jobs import missing_jobs
from distill_jax.teachers.messages import Sampling
from distill_jax.teachers.openai_client import OpenAIClient
from distill_jax.teachers.prices import Price
from distill_jax.teachers.store import Store


def annotate(server, store, rows, plan=None, protocol="chat", price=None, size=1000, poll=0.01, **budget):
    async def run():
        client = OpenAIClient("teacher-1", server.url, protocol)
        limits = LimitOptions(first_wait=0.01, **budget)
        annotator = BatchAnnotator(
            client, plan or make_plan(protocol), store, limits, price, size=size, poll=poll
        )
        return await annotator.run(lambda: iter(rows))

    return asyncio.run(run())


def begun(server) -> int:
    return len(server.batches)


@pytest.mark.parametrize("protocol", ["chat", "completions"])
def test_all_rows_in_batches_at_half_the_price(loopback, store, protocol):
    server = loopback(batch_polls=2)
    outcome = annotate(server, store, examples(25), protocol=protocol, price=Price(1.0, 1.0, 0.5), size=10)
    assert (outcome.stored, outcome.stopped, begun(server)) == (25, "", 3)
    found = lines(store.path)
    assert sorted(line["id"] for line in found) == sorted(row.id for row in examples(25))
    for line in found:
        assert line["usd"] == pytest.approx(0.5e-6 * sum(line["usage"].values()))
        assert "So the answer is" in line["text"]
    assert annotate(server, store, examples(25), protocol=protocol).complete == 25 and begun(server) == 3


def test_the_same_keys_as_without_a_batch(loopback, store):
    from teacher_helpers import annotate as one_by_one

    server = loopback()
    annotate(server, store, examples(7)[:5])
    assert one_by_one(server, store, examples(7)).answered == 2


def test_failed_requests_are_asked_again_in_the_next_batch(loopback, store):
    server = loopback(script=["500", "", "500", "", ""])
    outcome = annotate(server, store, examples(5))
    assert (outcome.stored, outcome.failed, begun(server)) == (5, 0, 2)  # as the rows ended up
    assert [failure[:15] for failure in outcome.failures] == ["row row-0: HTTP", "row row-2: HTTP"]


def test_batches_of_nothing_but_failures_end(loopback, store):
    server = loopback(script=["500"] * 100)
    outcome = annotate(server, store, examples(5))
    assert outcome.fatal and "no request of the last batch" in outcome.stopped and begun(server) == 1


def test_a_budget(loopback, store):
    server, plan = loopback(), make_plan(sampling=Sampling(max_tokens=20))
    outcome = annotate(server, store, examples(50), plan, budget_requests=12)
    assert outcome.stopped == "the budget of requests is spent" and store.rows == 12
    outcome = annotate(server, store, examples(50), plan, budget_tokens=500)
    assert outcome.stopped == "the budget of tokens is spent" and 400 < store.spent.tokens <= 500


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["lost", "begun", "collected"])
def test_killed_around_a_batch_the_next_run_pays_for_no_second_one(loopback, tmp_path, monkeypatch, moment):
    """The endpoint has begun it and the answer was never read; or was; or the store has all of it."""
    from distill_jax.teachers import batch_api

    server = loopback()
    write = batch_api.Journal.write

    def dying(self, event, token, **fields):
        if (event, moment) in (("begun", "lost"), ("collected", "collected")):
            raise Killed
        write(self, event, token, **fields)
        if event == moment == "begun":
            raise Killed

    monkeypatch.setattr(batch_api.Journal, "write", dying)
    with Store(tmp_path / "s.jsonl") as store, pytest.raises(Killed):
        annotate(server, store, examples(8))
    monkeypatch.undo()
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Store(tmp_path / "s.jsonl") as store:
        annotate(server, store, examples(8))
    assert begun(server) == 1
    assert sorted(line["id"] for line in lines(tmp_path / "s.jsonl")) == [f"row-{n}" for n in range(8)]


def test_a_batch_that_was_announced_and_never_begun(loopback, store):
    server = loopback()
    journal = store.path.with_name("store.jsonl.batches")
    journal.write_text('{"event": "beginning", "token": "t"}\n{"event": "begu')
    assert annotate(server, store, examples(3)).stored == 3
    events = [(event["event"], event["token"] == "t") for event in lines(journal)]
    assert events == [
        ("beginning", True),
        ("collected", True),
        ("beginning", False),
        ("begun", False),
        ("collected", False),
    ]


def test_answers_for_rows_that_are_gone_are_kept(loopback, store):
    server = loopback()
    done = asyncio.run(_begin(server, store, examples(6)))
    outcome = annotate(server, store, examples(6)[:4])
    assert outcome.stored == 4 and begun(server) == 1
    kept = lines(store.path.with_name(f"store.jsonl.{done}.jsonl"))
    assert len(kept) == 2 and all(answer["response"]["status_code"] == 200 for answer in kept)


async def _begin(server, store, rows) -> str:
    client = OpenAIClient("teacher-1", server.url)
    annotator = BatchAnnotator(client, make_plan(), store, LimitOptions())
    body, _ = await annotator._next_file(rows)
    batch = await annotator._begin("t", body)
    await client.close()
    return batch


def test_a_batch_that_the_endpoint_refuses(loopback, store, monkeypatch):
    server = loopback()

    def refuse(batch):
        errors = {"object": "list", "data": [{"message": "line 1: no such model", "code": "x"}]}
        return {**batch, "status": "failed", "errors": errors}

    monkeypatch.setattr(server, "_poll", refuse)
    outcome = annotate(server, store, examples(3))
    assert outcome.fatal and "failed: line 1: no such model" in outcome.stopped


def test_a_signal_ends_the_wait_and_the_next_run_collects_the_batch(loopback, store):
    server = loopback(batch_polls=1)
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    outcome = annotate(server, store, examples(3), poll=500)
    assert "stopped by SIGINT; batches go on" in outcome.stopped and not outcome.fatal
    assert (outcome.stored, begun(server)) == (0, 1)
    assert annotate(server, store, examples(3)).stored == 3 and begun(server) == 1


def test_a_batch_is_asked_for_again_where_it_was_refused(loopback, store):
    refusals = [(429, {"error": "slow"}, {"Retry-After": wait}) for wait in ("0", "0")]

    def respond(path, request):
        return refusals.pop() if path == "/v1/batches" and refusals else None

    server = loopback(respond=respond)
    assert annotate(server, store, examples(3)).stored == 3 and begun(server) == 1
    refusals += [(429, {"error": "slow"}, {"Retry-After": "86400"})] * 9
    outcome = annotate(server, store, examples(5))
    assert "asks to wait 86,400 s" in outcome.stopped and not outcome.fatal and begun(server) == 1


def test_a_spoilt_journal(loopback, store):
    store.path.with_name("store.jsonl.batches").write_text('{"no": "event"}\n')
    with pytest.raises(UserError, match="not a journal"):
        annotate(loopback(), store, examples(1))


def test_the_file_is_what_the_endpoint_documents(loopback, store):
    server = loopback()
    annotate(server, store, examples(2))
    name = next(iter(server.batches.values()))["input_file_id"]
    sent = [json.loads(line) for line in server.files[name].decode().splitlines()]
    assert [set(line) for line in sent] == [{"custom_id", "method", "url", "body"}] * 2
    assert sent[0]["url"] == "/v1/chat/completions" and sent[0]["body"]["messages"][-1]["content"]
    assert len({line["custom_id"] for line in sent}) == 2
    assert max(len(line["custom_id"]) for line in sent) <= 64


def test_lines_with_unicode_separators_and_errors_of_any_form(loopback, store):
    server = loopback(answers=lambda prompt, body: "Late.\u2028 So the answer is neutral.")
    assert annotate(server, store, examples(2)).stored == 2
    run = BatchAnnotator(OpenAIClient("teacher-1", server.url), make_plan(), store, LimitOptions())
    [job] = missing_jobs(examples(3)[2:], make_plan(), store)
    for answer in (
        {"response": None, "error": None},
        {"response": {"status_code": 500, "body": "timed out"}},
        {"response": {"status_code": 500, "body": {"error": "busy"}}, "error": None},
    ):
        run._failed.clear()
        assert asyncio.run(run._read(job, answer)) == []
    told = [failure.partition(": ")[2] for failure in run.outcome.failures]
    assert told == ["no response: no message", "HTTP 500: timed out", "HTTP 500: busy"]
    body = {"choices": [{"message": {"content": "It is. So the answer is neutral."}, "finish_reason": "stop"}]}
    for response in (
        {"status_code": 200, "body": json.dumps(body)},
        {"status_code": "200", "body": body},
        {"body": body},
        body,
    ):  # a paid answer, however it is wrapped
        [line] = asyncio.run(run._read(job, {"response": response, "error": None}))
        assert line["text"] == "It is. So the answer is neutral."


def test_a_bad_line_of_a_batch_spoils_that_line_alone(loopback, store, caplog):
    server = loopback()
    collected = server._poll

    def spoil(batch):
        done = collected(batch)
        name = done.get("output_file_id")
        if name and len(server.batches) == 1:
            first, second, *rest = server.files[name].decode().split("\n")
            odd = ["[1, 2]", '"text"', "{}", '{"custom_id": "x", "response": "none"}']
            server.files[name] = "\n".join([first, second[:40], *odd, *rest]).encode("utf-8-sig")
        return done

    server._poll = spoil
    outcome = annotate(server, store, examples(4))
    assert (outcome.stored, outcome.failed, begun(server)) == (4, 0, 2)
    assert "4 lines are no answers: their rows are asked for again" in caplog.text
