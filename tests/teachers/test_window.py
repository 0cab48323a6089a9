"""How many requests at a time, against servers that fall behind; the clock jumps: waiting takes no time."""

import asyncio
import collections
import selectors

import pytest
from teacher_helpers import examples, lines, make_plan

from distill_jax.config.annotation import LimitOptions
from distill_jax.teachers.annotator import Annotator
from distill_jax.teachers.http_errors import no_answer, status_error
from distill_jax.teachers.messages import Answer, Client, Reply


class _Jumping(selectors.DefaultSelector):
    """Never waits for a timer: the time until then has passed."""

    now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0.0
        return super().select(0.0 if timeout is not None else None)


def in_no_time(coroutine):
    """Runs a coroutine on an event loop whose clock jumps from timer to timer."""
    selector = _Jumping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(coroutine)


class Slots(Client):
    """A server that works on `slots` requests at a time, for `seconds` each; the others wait in its queue.

    Above `refuses` requests at a time it refuses, with a 503.
    """

    endpoint = "slots"

    def __init__(self, slots: int, seconds: float, timeout: float, refuses: int = 1000):
        self._free, self._seconds, self._timeout = asyncio.Semaphore(slots), seconds, timeout
        self._refuses, self._open = refuses, 0
        self.most_open, self.came = 0, collections.Counter()

    async def complete(self, request):
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        try:
            if self._open > self._refuses:
                self.came["refused"] += 1
                raise status_error(503, "busy")
            async with asyncio.timeout(self._timeout), self._free:
                await asyncio.sleep(self._seconds)
            self.came["answered"] += 1
            return Reply([Answer("It is so. So the answer is neutral.")], 10, 10)
        except TimeoutError:
            self.came["timed out"] += 1
            raise no_answer(self._timeout) from None
        finally:
            self._open -= 1


def ask(store, client, rows: int, **limits):
    async def run():
        made = LimitOptions(**{"first_wait": 0.01, **limits})
        return await Annotator(client, make_plan(), store, made).run(examples(rows))

    return in_no_time(run())


@pytest.mark.parametrize("rows", [20, 100])
def test_a_server_with_two_slots_answers_every_request_the_first_time(store, rows):
    """As llama.cpp: 32 at once would wait up to 80 s for answers of 5 s; the time-out is 60 s."""
    client = Slots(slots=2, seconds=5.0, timeout=60.0)
    outcome = ask(store, client, rows, concurrency=32)
    assert (outcome.answered, outcome.asked, outcome.timed_out) == (rows, rows, 0)
    assert sum(line["requests"] for line in lines(store.path)) == rows and client.most_open >= 4


def test_a_server_that_keeps_up_gets_all_it_may(store):
    """Also where each answer takes most of the time-out: it is no quicker with fewer at a time."""
    client = Slots(slots=64, seconds=50.0, timeout=60.0)
    outcome = ask(store, client, 200, concurrency=32)
    assert client.most_open == outcome.at_a_time == 32 and outcome.timed_out == 0


def test_a_model_in_this_process_is_asked_for_whole_batches(store):
    """After the first answers as many as are allowed, where a server would have got seven, then fourteen."""
    client = Slots(slots=64, seconds=50.0, timeout=60.0)
    client.batches = True
    ask(store, client, 40, concurrency=32)
    assert client.most_open >= 29


def test_time_outs_halve_what_is_sent_and_answers_let_it_grow(store, caplog):
    """One slot of 25 s against 60 s: of the first requests, those that wait longest time out."""
    client = Slots(slots=1, seconds=25.0, timeout=60.0)
    outcome = ask(store, client, 12, concurrency=32, attempts=50)
    assert (outcome.answered, outcome.failed) == (12, 0)
    assert 0 < outcome.timed_out == client.came["timed out"] and client.most_open <= 6
    [told] = [message for message in caplog.messages if "at a time" in message]
    assert told.startswith("no answer within 60 s (--timeout SECONDS gives it longer, --concurrency N ")


def test_a_server_that_refuses_is_asked_less_once_for_all_under_way(store):
    client = Slots(slots=8, seconds=1.0, timeout=60.0, refuses=8)
    outcome = ask(store, client, 100, concurrency=64, attempts=50)
    assert outcome.answered == 100 and 0 < outcome.busy == client.came["refused"] < 40
    assert 4 <= outcome.at_a_time <= 12  # it stays near what the server takes


def test_a_run_in_which_nobody_answers_says_so(store):
    client = Slots(slots=0, seconds=1.0, timeout=60.0)
    outcome = ask(store, client, 20, concurrency=32, attempts=2)
    assert (outcome.answered, outcome.asked, outcome.at_a_time) == (0, 20, 1) and outcome.fatal
