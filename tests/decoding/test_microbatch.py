import asyncio
import threading
import time

import pytest

from distill_jax.decoding.microbatch import Closed, Full, MicroBatcher


class Runs:
    """Doubles numbers; remembers the batches; runs only while `gate` is open."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, key, items):
        self.gate.wait(10)
        self.batches.append((key, list(items)))
        if key == "bad":
            raise RuntimeError("no")
        return [2 * item for item in items]


def within(test, **settings):
    """Runs `test(batcher, runs)` with a batcher that is closed at the end."""

    async def main():
        runs = Runs()
        batcher = MicroBatcher(runs, **{"batch_size": 4, "max_queue": 20, "max_wait": 0.02} | settings)
        try:
            async with asyncio.timeout(20):
                await test(batcher, runs)
        finally:
            runs.gate.set()
            await batcher.close()
        return runs

    return asyncio.run(main())


def test_items_of_many_callers_share_batches_and_everybody_gets_his_own():
    async def test(batcher, runs):
        answers = await asyncio.gather(*(batcher.submit("a", [n, n + 100]) for n in range(6)))
        assert answers == [[2 * n, 2 * n + 200] for n in range(6)]

    runs = within(test)
    assert [len(items) for _, items in runs.batches] == [4, 4, 4]


def test_items_with_different_keys_are_not_mixed_and_the_oldest_goes_first():
    async def test(batcher, runs):
        await asyncio.gather(*(batcher.submit(key, [n]) for n, key in enumerate("abab")))

    assert within(test).batches == [("a", [0, 2]), ("b", [1, 3])]


def test_a_full_queue_refuses_and_keeps_what_it_has():
    async def test(batcher, runs):
        runs.gate.clear()
        first = asyncio.create_task(batcher.submit("a", list(range(4))))
        await asyncio.sleep(0.05)  # under way: no longer in the queue
        second = asyncio.create_task(batcher.submit("a", list(range(20))))
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batcher.submit("a", [1])
        assert batcher.waiting == 20
        runs.gate.set()
        assert len(await first) == 4 and len(await second) == 20
        assert await batcher.submit("a", [3]) == [6]

    within(test)


def test_what_waits_is_answered_before_it_closes():
    async def test(batcher, runs):
        runs.gate.clear()
        waiting = asyncio.create_task(batcher.submit("a", list(range(10))))
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(Closed):
            await batcher.submit("a", [1])
        runs.gate.set()
        await closing
        assert await waiting == [2 * n for n in range(10)]

    within(test)


def test_an_error_is_that_of_its_batch_alone():
    async def test(batcher, runs):
        good, bad = await asyncio.gather(
            batcher.submit("a", [1]), batcher.submit("bad", [2, 3]), return_exceptions=True
        )
        assert good == [2] and isinstance(bad, RuntimeError)
        assert await batcher.submit("a", [4]) == [8]

    within(test)


def test_items_of_callers_who_left_are_dropped():
    async def test(batcher, runs):
        runs.gate.clear()
        first = asyncio.create_task(batcher.submit("a", [0]))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.submit("a", [1, 2]))
        stays = asyncio.create_task(batcher.submit("a", [3]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        assert batcher.waiting == 1
        runs.gate.set()
        assert await stays == [6] and await first == [0]

    assert [item for _, items in within(test).batches for item in items] == [0, 3]


def test_without_a_wait_calls_gather_while_a_batch_runs():
    def double(key, items):
        time.sleep(0.02)
        return [2 * item for item in items]

    sizes = []

    async def main():
        batcher = MicroBatcher(double, batch_size=4, on_batch=sizes.append)
        answers = await asyncio.gather(*(batcher.submit(None, [n]) for n in range(10)))
        await asyncio.sleep(0.01)
        return answers, await batcher.submit(None, [50])  # a call after a pause

    assert asyncio.run(main()) == ([[2 * n] for n in range(10)], [100])
    assert sum(sizes) == 11 and max(sizes) == 4 and len(sizes) <= 5


def test_a_lone_call_does_not_wait_for_a_full_batch():
    async def main():
        async with asyncio.timeout(5):
            return await MicroBatcher(lambda key, items: items, batch_size=1000).submit(None, [7])

    assert asyncio.run(main()) == [7]


def test_of_a_batch_that_fails_only_the_guilty_items_do(caplog):
    def double(key, items):
        if 13 in items:
            raise RuntimeError("unlucky")
        return [2 * item for item in items]

    async def main():
        batcher = MicroBatcher(double, batch_size=8)
        asked = [batcher.submit("a", numbers) for numbers in ([1, 2], [3, 13], [4])]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        await batcher.close()
        return answers

    first, guilty, last = asyncio.run(main())
    assert first == [2, 4] and last == [8] and str(guilty) == "unlucky"
    assert "a batch of 5 failed" in caplog.text


def test_a_new_program_holds_up_no_known_one():
    compiled, order = threading.Event(), []

    def run(key, items):
        if key == "new" and "new" not in order:
            compiled.wait(10)
        order.append(key)
        return items

    async def main():
        batcher = MicroBatcher(run, batch_size=4, programs=lambda key, items: {(key, len(items))})
        await batcher.submit("known", [0])
        new = [asyncio.create_task(batcher.submit("new", [n])) for n in range(2)]
        await asyncio.sleep(0.01)  # a batch of two of them
        behind = asyncio.create_task(batcher.submit("new", [2]))
        for n in range(3):
            assert await batcher.submit("known", [n]) == [n]
        closing = asyncio.create_task(batcher.close())
        compiled.set()
        assert await asyncio.gather(*new, behind) == [[0], [1], [2]]
        await closing

    asyncio.run(main())
    assert order == ["known"] * 4 + ["new", "new"]
