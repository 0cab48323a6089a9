"""A server on an address: until a signal for the command, in a thread for the demo and the benchmarks."""

import asyncio
import concurrent.futures
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator

from aiohttp import web

from distill_jax.config import ServeConfig
from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError
from distill_jax.serving.app import Server

GRACE = 60.0  # seconds that running requests get when the server stops


@contextlib.asynccontextmanager
async def listening(server: Server, host: str, port: int) -> AsyncIterator[str]:
    """Serves at `http://HOST:PORT`, which it yields, while the block runs; port 0 takes a free one.

    Queued requests are answered before it ends. Raises UserError for an address that is taken or not allowed.
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
    """Serves on a free port of the loopback, in another thread, while the block runs; yields the address.

    Raises UserError when no port is free.
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
            served.result()  # raises the error that kept it from starting
        address, stop = started.result()
        try:
            yield address
        finally:
            stop()
            served.result()


def run(config: ServeConfig, tell: Callable[[str], None]) -> None:
    """Loads a student and serves it until SIGINT or SIGTERM.

    The key that clients must send is read from the environment variable DISTILL_JAX_SERVE_KEY. `tell` is called
    with the address, and when the server stops. Raises UserError for a folder that is no run, or an address
    that is taken or not allowed.
    """
    predictor = Predictor(
        config.model_dir, config.step, config.batch_size, config.weights, config.verify_checksums
    )
    server = Server(predictor, config, os.environ.get("DISTILL_JAX_SERVE_KEY") or None)
    server.warm_up()

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with listening(server, config.host, config.port) as address:
            tell(f"serving on {address}; Ctrl-C stops")
            await stop.wait()
            tell("stopping: answering the queued requests")

    asyncio.run(serve())
