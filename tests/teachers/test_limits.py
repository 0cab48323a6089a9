import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.errors import UserError
from distill_jax.teachers.limits import Budget, Pace, Spent, TokenEstimate
from distill_jax.teachers.prices import Price, parse_price, price_of


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time passes only by sleeping."""

    now = 100.0

    def time(self):
        return self.now

    def _run_once(self):
        if self._scheduled and not self._ready:
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


def on_clock(coroutine):
    loop = Clock()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


@given(st.lists(st.floats(0.1, 40.0), min_size=1, max_size=60), st.floats(1.0, 6000.0))
def test_no_minute_has_more_than_the_rate(amounts, per_minute):
    """In every window of a minute: the rate, one second's share, and the last one to pass."""

    async def run():
        pace, passed = Pace(per_minute), []
        for amount in amounts:
            await pace.take(amount)
            passed.append((asyncio.get_running_loop().time(), amount))
        return passed

    passed = on_clock(run())
    for begin, (start, _) in enumerate(passed):
        window = [amount for time, amount in passed[begin:] if time < start + 60.0]
        assert sum(window) - window[-1] <= per_minute * 61.0 / 60.0 + 1e-6


def test_pace_gives_back_what_was_not_needed():
    async def run(correction):
        pace = Pace(60.0)
        await pace.take(30.0)
        pace.correct(correction)
        await pace.take(1.0)
        return asyncio.get_running_loop().time() - 100.0

    assert on_clock(run(0.0)) == pytest.approx(29.0)
    assert on_clock(run(-20.0)) == pytest.approx(9.0)


def test_no_limit():
    async def run():
        for _ in range(1000):
            await Pace(None).take(1e9)
        return asyncio.get_running_loop().time()

    assert on_clock(run()) == 100.0


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=40), st.integers(0, 60))
def test_a_budget_is_never_passed_and_never_waits_for_nothing(calls, limit):
    """Whatever the calls cost (at most what they reserve) and however they overlap."""

    async def run():
        budget, done = Budget(Spent(None, limit, None), Spent()), []

        async def call(most, actual):
            if await budget.reserve(Spent(1, most)):
                await asyncio.sleep(most)
                await budget.settle(Spent(1, most), Spent(1, min(actual, most)))
                assert budget.spent.tokens <= limit
                done.append(min(actual, most))

        await asyncio.gather(*(call(*numbers) for numbers in calls))
        assert budget.spent.tokens == sum(done)
        return budget, done

    budget, done = on_clock(asyncio.wait_for(run(), 10_000))
    assert budget.exhausted == (None if len(done) == len(calls) else "tokens")


def test_a_call_waits_for_what_others_may_leave():
    async def run():
        budget = Budget(Spent(None, 10, None), Spent())
        assert await budget.reserve(Spent(1, 8))
        assert not await budget.reserve(Spent(1, 8), wait=False)
        second = asyncio.create_task(budget.reserve(Spent(1, 8)))
        await asyncio.sleep(1)
        assert not second.done()
        await budget.settle(Spent(1, 8), Spent(1, 2))
        assert await second
        assert not await budget.reserve(Spent(1, 9))
        assert budget.exhausted == "tokens"

    on_clock(run())


def test_prices(tmp_path):
    openai = "openai"
    assert price_of("gpt-4o-mini", provider=openai) == Price(0.15, 0.60)
    assert price_of("gpt-4o-mini-2024-07-18", provider=openai) == Price(0.15, 0.60)
    assert price_of("gpt-4o-mini", base_url="https://api.openai.com/v1") == Price(0.15, 0.60)
    assert price_of("gpt-4o-mini", base_url="http://localhost:8000/v1") is None  # a server of one's own
    assert price_of("llama", provider=openai) is None
    table = tmp_path / "prices.yaml"
    table.write_text("llama: [0.1, 0.2]\n")
    assert price_of("llama", str(table)) == Price(0.1, 0.2)
    assert Price(1.0, 10.0, 0.5).of(2e6, 1e6) == 6.0
    table.write_text("llama: 3\n")
    with pytest.raises(UserError, match="llama"):
        price_of("llama", str(table))
    for text in ("", "1", "1,2,3", "a,b", "-1,2", "nan,1", "inf,1"):
        with pytest.raises(UserError, match="PROMPT,COMPLETION"):
            parse_price(text)


def test_the_token_estimate_learns():
    estimate = TokenEstimate()
    assert estimate.prompt(300) == 101
    estimate.learn(400, 100)
    assert estimate.prompt(800) == 221  # a tenth more than 200, and one
