"""A cap on open connections: one too many is told so, and closed."""

import asyncio
import json
from collections.abc import Callable

from aiohttp import web

from distill_jax.serving.responses import error_body

LINGER = 2.0  # seconds in which a client that is refused may send the request that the refusal answers


class _Refusing(asyncio.Protocol):
    """Answers 503 to whatever is sent, and closes."""

    def __init__(self, message: str):
        body = json.dumps(error_body(message, "server_error", code="too_many_connections")).encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self._answer = head.encode() + body

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(LINGER, transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._answer)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()


def limited(server: web.Server, most: int) -> Callable[[], asyncio.Protocol]:
    """The protocols of `server` for up to `most` open connections, and a refusal for more."""
    starting = 0  # connections whose protocol was made, and which the server does not count yet

    def started() -> None:
        nonlocal starting
        starting -= 1

    def protocol() -> asyncio.Protocol:
        nonlocal starting
        if len(server.connections) + starting >= most:
            return _Refusing(f"more than {most} connections: the server's --max-connections")
        starting += 1
        asyncio.get_running_loop().call_soon(started)  # just before the server is told of the connection
        return server()

    return protocol
