"""What stands around every route: the key, the metrics, and errors as OpenAI's clients read them."""

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable

import prometheus_client
from aiohttp import web

from distill_jax.config import ServeConfig
from distill_jax.decoding.microbatch import Closed, Full
from distill_jax.errors import UserError
from distill_jax.serving.requests import BadRequest
from distill_jax.serving.responses import error_body

LOG = logging.getLogger("distill_jax.serving")
OPEN = ("/", "/health", "/metrics", "/openapi.json")  # routes that need no key
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Metrics:
    """What `/metrics` shows, in Prometheus' text format."""

    def __init__(self, queue_length: Callable[[], int]):
        self.registry = prometheus_client.CollectorRegistry()
        names = {"registry": self.registry, "namespace": "distill_jax"}
        self.requests = prometheus_client.Counter("requests", "HTTP requests", ["route", "status"], **names)
        seconds = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
        self.seconds = prometheus_client.Histogram(
            "request_seconds", "Time to answer a request", ["route"], buckets=seconds, **names
        )
        self.batch = prometheus_client.Histogram(
            "batch_inputs", "Inputs per batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), **names
        )
        self.prompt_tokens = prometheus_client.Counter("prompt_tokens", "Tokens read", **names)
        self.completion_tokens = prometheus_client.Counter("completion_tokens", "Tokens written", **names)
        prometheus_client.Gauge("queue_inputs", "Inputs in the queue", **names).set_function(queue_length)


def around(metrics: Metrics, key: str | None, config: ServeConfig) -> Callable:
    """The middleware that counts in `metrics`; clients must send the key, unless it is None.

    A client that does not take its answer within `config.client_timeout` is cut off.
    """

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = getattr(request.match_info.route.resource, "canonical", "other")
        began = time.monotonic()
        response = await _answer(request, handler, key, config.timeout)
        metrics.requests.labels(route, response.status).inc()
        metrics.seconds.labels(route).observe(time.monotonic() - began)
        try:
            with contextlib.suppress(ConnectionError):  # the client has gone, which aiohttp finds too
                async with asyncio.timeout(config.client_timeout):
                    await response.prepare(request)
                    await response.write_eof()
        except TimeoutError:
            LOG.warning("a client of %s took no answer within %g s", request.path, config.client_timeout)
            if request.transport is not None:
                request.transport.abort()
        return response

    return count


async def _answer(
    request: web.Request, handler: Handler, key: str | None, timeout: float
) -> web.StreamResponse:
    """The handler's response, or the error that was raised."""
    try:
        if key is not None and request.path not in OPEN:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            # What is no text of HTTP's is no key; it is compared as the bytes that it came as.
            if not hmac.compare_digest(given.encode(errors="surrogateescape"), key.encode()):
                raise BadRequest("no valid key: send it as a bearer token", status=401)
        return await handler(request)
    except UserError as error:
        bad = error if isinstance(error, BadRequest) else BadRequest(str(error))
        response = _error(bad.status, str(bad), "invalid_request_error", bad.param, bad.code)
        if bad.status == 408:  # the rest of the body is not waited for
            response.force_close()
        return response
    except web.HTTPException as error:
        return _error(error.status, error.reason, "invalid_request_error")
    except Full:
        return _error(429, "the queue is full", "rate_limit_error", code="queue_full", retry_after="1")
    except Closed:
        message = "the server is stopping"
        return _error(503, message, "server_error", code="stopping", retry_after="5", connection="close")
    except TimeoutError:
        message = f"no answer within {timeout:g} s"
        return _error(503, message, "server_error", code="timeout", retry_after="5")
    except Exception:
        LOG.exception("error in %s", request.path)
        return _error(500, "internal error", "server_error")


def _error(
    status: int, message: str, kind: str, param: str | None = None, code: str | None = None, **headers: str
) -> web.Response:
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return web.json_response(error_body(message, kind, param, code), status=status, headers=named)
