"""A server on an address: until a signal for the command, in a thread for the demo and the benchmarks."""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

from aiohttp import web

from distill_jax.errors import UserError
from distill_jax.serving.app import Server

GRACE = 60.0  # seconds that answers under way get when the server stops


@contextlib.asynccontextmanager
async def listening(server: Server, host: str, port: int) -> AsyncIterator[str]:
    """Serves while the block runs; what waits at its end is answered.

    Args:
      server: what answers.
      host: address to listen on.
      port: 0 takes a free one.

    Yields:
      The address, `http://HOST:PORT`.

    Raises:
      UserError: for an address that cannot be had.
    """
    runner = web.AppRunner(server.app(), access_log=None, handler_cancellation=True, shutdown_timeout=GRACE)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        address = runner.addresses[0]
        yield f"http://{address[0]}:{address[1]}"
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def in_background(server: Server) -> Iterator[str]:
    """Serves on a free port of the loopback, in another thread, while the block runs.

    Yields:
      The address, `http://127.0.0.1:PORT`.

    Raises:
      UserError: when there is no port to be had.
    """
    started: concurrent.futures.Future[tuple[str, Callable[[], None]]] = concurrent.futures.Future()

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with listening(server, "127.0.0.1", 0) as address:
            started.set_result((address, lambda: loop.call_soon_threadsafe(stop.set)))
            await stop.wait()

    with concurrent.futures.ThreadPoolExecutor(1, "server") as thread:
        served = thread.submit(asyncio.run, serve())
        concurrent.futures.wait([started, served], return_when=concurrent.futures.FIRST_COMPLETED)
        if not started.done():
            served.result()  # raises what kept it from starting
        address, stop = started.result()
        try:
            yield address
        finally:
            stop()
            served.result()
