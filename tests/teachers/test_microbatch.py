import asyncio
import time

import pytest

from distill_jax.teachers.microbatch import MicroBatcher


def test_calls_gather_while_a_batch_runs():
    sizes = []

    def double(items):
        sizes.append(len(items))
        time.sleep(0.02)
        return [2 * item for item in items]

    async def run():
        batcher = MicroBatcher(double, 4)
        return await asyncio.gather(*(batcher(n) for n in range(10)))

    assert asyncio.run(run()) == [2 * n for n in range(10)]
    assert sum(sizes) == 10 and max(sizes) == 4 and len(sizes) <= 4


def test_an_error_reaches_all_of_its_batch_and_no_other():
    def odd_fails(items):
        if items[0] % 2:
            raise ValueError("odd")
        return items

    async def run():
        batcher = MicroBatcher(odd_fails, 1)
        return await asyncio.gather(*(batcher(n) for n in range(4)), return_exceptions=True)

    zero, one, two, three = asyncio.run(run())
    assert (zero, two) == (0, 2) and str(one) == str(three) == "odd"


def test_a_call_after_a_pause():
    async def run():
        batcher = MicroBatcher(list, 8)
        first = await batcher(1)
        await asyncio.sleep(0.01)
        return first, await batcher(2)

    assert asyncio.run(run()) == (1, 2)


def test_the_first_call_is_not_kept_waiting_for_company():
    async def run():
        async with asyncio.timeout(5):
            return await MicroBatcher(list, 1000)(7)

    assert asyncio.run(run()) == pytest.approx(7)
