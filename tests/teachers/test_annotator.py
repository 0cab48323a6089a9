import asyncio
import time
import tracemalloc

import pytest
from loopback_teacher import FAULTS, answer
from teacher_helpers import annotate, examples, lines, make_plan

from distill_jax.config.annotation import LimitOptions
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers.annotator import Annotator
from distill_jax.teachers.messages import Answer, Client, Reply, Sampling
from distill_jax.teachers.openai_client import OpenAIClient
from distill_jax.teachers.prices import Price
from distill_jax.teachers.store import Store


def ids(store):
    return sorted(line["id"] for line in lines(store.path))


@pytest.mark.parametrize("protocol", ["chat", "completions"])
def test_every_row_once_with_its_provenance(loopback, store, protocol):
    server = loopback()
    rows = examples(50)
    outcome = annotate(server, store, rows, protocol=protocol)
    assert (outcome.stored, outcome.failed, outcome.stopped) == (50, 0, "")
    assert ids(store) == sorted(row.id for row in rows)
    first = next(line for line in lines(store.path) if line["id"] == "row-7")
    sent = next(entry for entry in server.log if rows[7].input in entry["prompt"])
    assert first["text"] == answer(sent["prompt"], {})
    assert first["endpoint"] == f"{server.url}/"
    assert first["usage"]["prompt_tokens"] == len(sent["prompt"].split())
    assert first["template"].startswith("default@") and first["time"] and first["served_model"] == "teacher-1"
    assert first["requests"] == 1 and first["usd"] is None
    again = annotate(server, store, rows, protocol=protocol)
    assert (again.complete, again.answered) == (50, 0)
    assert len(server.log) == 50


def test_another_prompt_model_or_sampling_is_another_completion(loopback, store):
    server, rows = loopback(), examples(3)
    annotate(server, store, rows)
    annotate(server, store, rows, make_plan(sampling=Sampling(temperature=0.5)))
    annotate(server, store, rows, make_plan(structured=True))
    assert store.rows == len(server.log) == 9
    annotate(server, store, rows, make_plan(sampling=Sampling(seed=0)))
    assert store.rows == 12


def test_all_faults_at_once_cost_attempts_and_no_rows(loopback, store):
    """Nearly half of all requests fail, in every way there is."""
    faults = {fault: 0.06 for fault in FAULTS}
    server = loopback(faults=faults, hang=10.0)
    outcome = annotate(server, store, examples(150), timeout=1.5, attempts=25)
    assert (outcome.stored, outcome.failed) == (150, 0)
    assert set(server.injected) == set(FAULTS)
    assert ids(store) == sorted(row.id for row in examples(150))
    tried = sum(line["requests"] for line in lines(store.path))
    # Not equal: on a busy machine a request may time out before the server has seen it, or answered.
    assert tried >= server.count >= 150 + server.injected.total()
    assert all("So the answer is" in line["text"] for line in lines(store.path))


def test_retry_after_is_honoured_by_all(loopback, store):
    server = loopback(script=["429"], retry_after="1")
    start = time.monotonic()
    annotate(server, store, examples(3), concurrency=1)
    assert time.monotonic() - start >= 1.0
    first, second = (entry["time"] for entry in server.log[:2])
    assert second - first >= 1.0


def test_backoff_without_retry_after(loopback, store):
    server = loopback(script=["500", "500"], retry_after=None)
    outcome = annotate(server, store, examples(1), attempts=3)
    assert outcome.stored == 1 and lines(store.path)[0]["requests"] == 3


def test_attempts_end(loopback, store):
    server = loopback(script=["500"] * 3)
    outcome = annotate(server, store, examples(2), attempts=3, concurrency=1)
    assert (outcome.stored, outcome.failed) == (1, 1)
    assert outcome.failures == ["row row-0: HTTP 500: trouble"]
    assert annotate(server, store, examples(2)).stored == 1  # the next run asks for what is missing


def test_a_refused_row_is_not_asked_again_and_harms_no_other(loopback, store):
    server = loopback(script=["400"])
    outcome = annotate(server, store, examples(4), concurrency=1)
    assert (outcome.stored, outcome.failed, server.count) == (3, 1, 4)


@pytest.mark.parametrize(("fault", "told"), [("key", "HTTP 401"), ("quota", "no credit")])
def test_what_no_request_survives_ends_the_run(loopback, store, fault, told):
    server = loopback(key="another-key") if fault == "key" else loopback(script=[fault] * 9)
    outcome = annotate(server, store, examples(100), concurrency=4)
    assert outcome.fatal and told in outcome.stopped
    assert server.count + len(server.log) < 20


def test_an_endpoint_that_is_not_there_ends_the_run(loopback, store):
    server = loopback()
    server.__exit__()
    outcome = annotate(server, store, examples(100), attempts=2)
    assert outcome.fatal and "connection failed" in outcome.stopped and "in a row" in outcome.stopped


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(loopback, store, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert annotate(loopback(), store, examples(3), attempts=1).stored == 3


def test_concurrency_is_bounded(loopback, store):
    server = loopback(delay=0.2)
    annotate(server, store, examples(20), concurrency=6)
    assert server.most_open == 6


def test_requests_per_minute(loopback, store):
    """20 a second, after one second's share at once."""
    start = time.monotonic()
    annotate(loopback(), store, examples(45), requests_per_minute=1200)
    assert time.monotonic() - start >= (45 - 1 - 20) * 0.05


def test_tokens_per_minute(loopback, store):
    """4,000 a second, by what the endpoint says was used: 500 words an answer."""
    server = loopback(answers=lambda prompt, body: "word " * 500)
    plan, start = make_plan(sampling=Sampling(max_tokens=600)), time.monotonic()
    annotate(server, store, examples(20), plan, tokens_per_minute=240_000, concurrency=1)
    used = [sum(line["usage"].values()) for line in lines(store.path)]
    assert sum(used) > 10_000
    # One second's share at once, and the last request before its tokens are counted.
    assert time.monotonic() - start >= (sum(used[:-1]) - 4000) / 4000


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_budget_of_requests_is_kept_over_runs(loopback, store, concurrency):
    server = loopback()
    for _ in range(2):
        limits = {"budget_requests": 7, "concurrency": concurrency}
        outcome = annotate(server, store, examples(20), **limits)
        assert outcome.stopped == "the budget of requests is spent" and not outcome.fatal
        assert store.rows == server.count == 7
    assert annotate(server, store, examples(20)).stored == 13


def test_failed_attempts_count_against_the_budget(loopback, store):
    server = loopback(script=["500"] * 4)
    annotate(server, store, examples(20), budget_requests=10, concurrency=3)
    assert server.count == 10


def test_a_budget_of_money_is_never_passed(loopback, store):
    server, price = loopback(), Price(1.0, 100.0)
    plan = make_plan(sampling=Sampling(max_tokens=20))
    outcome = annotate(server, store, examples(60), plan, price=price, budget_usd=0.03, concurrency=16)
    assert outcome.stopped == "the budget of usd is spent"
    spent = sum(line["usd"] for line in lines(store.path))
    assert 0.02 < spent <= 0.03
    assert store.spent.usd == pytest.approx(spent)


def test_a_budget_of_tokens(loopback, store):
    server, plan = loopback(), make_plan(sampling=Sampling(max_tokens=20))
    annotate(server, store, examples(60), plan, budget_tokens=1000, concurrency=16)
    assert 800 < store.spent.tokens <= 1000


def test_a_budget_of_tokens_holds_over_runs_where_the_endpoint_reports_none(loopback, store, monkeypatch):
    server = loopback()
    chat = server.chat
    monkeypatch.setattr(server, "chat", lambda *args: chat(*args) | {"usage": None})
    for _ in range(2):
        outcome = annotate(server, store, examples(12), budget_tokens=1200, concurrency=1)
        assert outcome.stopped == "the budget of tokens is spent"
    assert 2 <= store.rows == server.count <= 4 and store.spent.tokens <= 1200


def test_a_long_pause_is_logged_and_ends_with_the_run(loopback, store, caplog):
    server = loopback(script=["429"] * 9, retry_after="86400")

    async def run():
        annotator = Annotator(
            OpenAIClient("teacher-1", server.url), make_plan(), store, LimitOptions(max_wait=1e6)
        )
        asking = asyncio.create_task(annotator.run(examples(3)))
        while not caplog.messages:
            await asyncio.sleep(0.02)
        annotator._stop("stopped by SIGINT")  # as the signal's handler does
        return await asking

    assert asyncio.run(asyncio.wait_for(run(), 20)).stopped == "stopped by SIGINT"
    [message] = caplog.messages
    assert "wait 86,400 s, until 20" in message


def test_samples_have_their_own_seeds_and_only_missing_ones_are_asked(loopback, store):
    server, sampling = loopback(), Sampling(temperature=0.7, seed=5)
    annotate(server, store, examples(2), make_plan(sampling=sampling, samples=2))
    annotate(server, store, examples(2), make_plan(sampling=sampling, samples=5))
    assert sorted(entry["body"]["seed"] for entry in server.log) == sorted([5, 6, 7, 8, 9] * 2)
    assert len({line["text"] for line in lines(store.path)}) == 10


def test_samples_in_one_request_are_paid_for_once(loopback, store):
    server, sampling = loopback(), Sampling(temperature=0.7, seed=0)
    plan = make_plan(sampling=sampling, samples=5, samples_per_request=5)
    annotate(server, store, examples(2), plan)
    assert server.count == 2 and store.rows == 10
    assert sum(line["requests"] for line in lines(store.path)) == 2
    asked = sum(len(entry["prompt"].split()) for entry in server.log)
    assert sum(line["usage"]["prompt_tokens"] for line in lines(store.path) if "usage" in line) == asked


def test_a_server_that_knows_no_n_is_asked_for_the_rest(loopback, store, monkeypatch):
    server = loopback()
    chat = server.chat
    monkeypatch.setattr(server, "chat", lambda request, said: chat({**request, "n": 1}, said))
    plan = make_plan(sampling=Sampling(temperature=0.7, seed=0), samples=3, samples_per_request=3)
    outcome = annotate(server, store, examples(1), plan)
    assert outcome.stored == 3 and [line["sample"] for line in lines(store.path)] == [0, 1, 2]


def test_the_same_row_twice_is_asked_once(loopback, store):
    server = loopback(delay=0.05)
    annotate(server, store, examples(2) * 3)
    assert server.count == 2


def test_what_waits_when_a_run_ends_is_not_sent(loopback, store):
    """One request a second, and a wrong key: the others wait for their turn and never go out."""
    server = loopback(key="another")
    outcome = annotate(server, store, examples(50), concurrency=8, requests_per_minute=60)
    assert outcome.fatal and len(server.log) <= 2


def test_a_bad_row_loses_no_answer_under_way(loopback, store):
    server = loopback(delay=0.2)

    def rows():
        yield from examples(5)
        raise UserError("file, line 6: invalid JSON")

    with pytest.raises(UserError, match="line 6"):
        annotate(server, store, rows())
    assert store.rows == 5


def test_structured_output(loopback, store):
    server = loopback(answers=lambda prompt, body: '{"rationale": "so", "label": "neutral"}')
    plan = make_plan(structured=True)
    annotate(server, store, examples(1), plan)
    asked = server.log[0]["body"]["response_format"]["json_schema"]
    assert asked["schema"]["properties"]["label"]["enum"] == ["entailment", "neutral", "contradiction"]
    assert lines(store.path)[0]["parser"] == "json"


def test_a_store_that_cannot_be_written_ends_the_run(loopback, tmp_path, monkeypatch):
    server = loopback()
    with Store(tmp_path / "s.jsonl") as store:

        def full(lines):
            raise UserError("no space left on the disk")

        monkeypatch.setattr(store, "_write", full)
        with pytest.raises(UserError, match="no space left"):
            annotate(server, store, examples(50))
        assert server.count < 50


def test_the_loop_lets_answers_in_while_it_skips_stored_rows(loopback, tmp_path):
    """Many stored rows in a row may not starve the answers under way."""
    server = loopback()
    with Store(tmp_path / "s.jsonl") as store:
        annotate(server, store, examples(300))
        turns = 0

        async def count():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async def run():
            counting = asyncio.create_task(count())
            client = OpenAIClient("teacher-1", server.url)
            outcome = await Annotator(client, make_plan(), store, LimitOptions()).run(examples(300))
            counting.cancel()
            return outcome

        assert asyncio.run(run()).complete == 300
        assert turns >= 6


class Inside(Client):
    """A teacher in this process."""

    endpoint = "inside"

    async def complete(self, request):
        return Reply([Answer("It is so. So the answer is neutral." + " " * 500)], 10, 10)


def test_memory_does_not_grow_with_the_rows(tmp_path, usual_garbage_collection):
    """1,100 more completions of 1 KB, and then as many rows that are there already."""
    peaks = []
    for count in (400, 400, 1500, 1500):
        rows = (Example(f"row-{n}", f"text {n}") for n in range(count))
        with Store(tmp_path / f"{count}.jsonl") as store:
            tracemalloc.start()
            asyncio.run(Annotator(Inside(), make_plan(), store, LimitOptions()).run(rows))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert store.rows == count
    assert peaks[2] - peaks[0] < 300_000 and peaks[3] - peaks[1] < 300_000
