"""A server on an address: until a signal for the command, in a thread for the demo and the benchmarks."""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator

from aiohttp import web
from aiohttp.http import HttpProcessingError

from distill_jax.config import ServeConfig
from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError, words_of
from distill_jax.serving.app import Server
from distill_jax.serving.connections import limited

GRACE = 60.0  # seconds that running requests get when the server stops
LINGER = 10.0  # seconds in which a client may still send the rest of a body that was answered already
LOG = logging.getLogger("distill_jax.serving.http")  # what aiohttp has to say


def _in_one_line(record: logging.LogRecord) -> bool:
    """Bytes that are no HTTP, which anybody may send, are a line without the traceback of aiohttp's parser."""
    error = record.exc_info and record.exc_info[1]
    if isinstance(error, HttpProcessingError):
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
        record.msg, record.args = "no HTTP from %s: %.200s", (*record.args, words_of(error))
    return True


LOG.addFilter(_in_one_line)


@contextlib.asynccontextmanager
async def listening(server: Server, host: str, port: int) -> AsyncIterator[str]:
    """Serves at `http://HOST:PORT`, which it yields, while the block runs; port 0 takes a free one.

    Queued requests are answered before it ends. Raises UserError for an address that is taken or not allowed.
    """
    # The time that a connection may be kept alive also counts until the head of its first request has come.
    patience = server.config.client_timeout
    options = {
        "keepalive_timeout": patience,
        "lingering_time": min(patience, LINGER),
        "handler_cancellation": True,
    }
    runner = web.AppRunner(server.app(), access_log=None, logger=LOG, shutdown_timeout=GRACE, **options)
    await runner.setup()
    listener = None
    try:
        try:
            protocol = limited(runner.server, server.config.max_connections)
            listener = await asyncio.get_running_loop().create_server(protocol, host, port)
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        address = listener.sockets[0].getsockname()
        yield f"http://{address[0]}:{address[1]}"
    finally:
        if listener is not None:
            listener.close()
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
    with the address, again once the usual programs are compiled, and when the server stops. Raises UserError
    for a folder that is no run, or an address that is taken or not allowed.
    """
    predictor = Predictor.of(config)
    server = Server(predictor, config, os.environ.get("DISTILL_JAX_SERVE_KEY") or None)
    server.starting = True

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with listening(server, config.host, config.port) as address:
            if config.warm_up:
                tell(f"listening on {address}: compiling for inputs of up to {config.warm_up} tokens")
            stopped, warm_up = asyncio.create_task(stop.wait()), asyncio.create_task(server.warm_up())
            await asyncio.wait([stopped, warm_up], return_when=asyncio.FIRST_COMPLETED)
            if warm_up.done():
                warm_up.result()  # raises the error that kept it from starting
                tell(f"serving on {address}; Ctrl-C stops")
            await stopped
            warm_up.cancel()
            tell("stopping: answering the queued requests")

    asyncio.run(serve())
