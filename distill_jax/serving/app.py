"""The HTTP application: routes, limits, errors, metrics."""

import asyncio
import dataclasses
import hmac
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import prometheus_client
from aiohttp import web

from distill_jax.data.schema import Example
from distill_jax.decoding.engine import Decoding
from distill_jax.decoding.predict import Request
from distill_jax.decoding.predictor import Predictor, to_example
from distill_jax.errors import UserError
from distill_jax.serving import protocol
from distill_jax.serving.batcher import Batcher, Closed, Full
from distill_jax.serving.completion import Form, complete, forms
from distill_jax.serving.protocol import BadRequest, error_body

LOG = logging.getLogger("distill_jax.serving")
MAX_BODY = 16 << 20  # bytes
PREDICT_FIELDS = {
    "inputs",
    "label",
    "rationale",
    "label_by",
    "normalize_scores",
    "temperature",
    "top_k",
    "top_p",
    "num_beams",
    "length_penalty",
    "n_best",
    "seed",
}


@dataclasses.dataclass(frozen=True)
class Complete:
    """Key of a batch of completions."""

    form: Form
    decoding: Decoding
    with_pieces: bool


class Metrics:
    """What `/metrics` shows, in Prometheus' text format."""

    def __init__(self, queue_length: Callable[[], int]):
        self.registry = prometheus_client.CollectorRegistry()
        names = {"registry": self.registry, "namespace": "distill_jax"}
        self.requests = prometheus_client.Counter("requests", "HTTP requests", ["route", "status"], **names)
        self.seconds = prometheus_client.Histogram(
            "request_seconds",
            "Time to answer a request",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            **names,
        )
        self.batch = prometheus_client.Histogram(
            "batch_inputs", "Inputs worked off together", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), **names
        )
        self.prompt_tokens = prometheus_client.Counter("prompt_tokens", "Tokens read", **names)
        self.completion_tokens = prometheus_client.Counter("completion_tokens", "Tokens written", **names)
        prometheus_client.Gauge("queue_inputs", "Inputs that wait", **names).set_function(queue_length)


class Server:
    """A student's routes.

    Args:
      predictor: the student.
      name: of the model, as clients ask for it.
      template: of the answers, see `completion.forms`.
      max_queue: inputs that may wait; more are refused with 429.
      max_wait: seconds that an input waits for others to share its batch.
      timeout: seconds after which a request is given up with 503.
      key: that clients must send as a bearer token; None for none.
    """

    def __init__(
        self,
        predictor: Predictor,
        name: str,
        *,
        template: str | None = None,
        max_queue: int = 1024,
        max_wait: float = 0.002,
        timeout: float = 120.0,
        key: str | None = None,
    ):
        self._predictor = predictor
        self._forms = {
            f"{name}{suffix}": form for suffix, form in forms(predictor.student.views, template).items()
        }
        self._name = name
        self._max_queue = max_queue
        self._timeout = timeout
        self._key = key
        self._created = int(time.time())
        self.metrics = Metrics(lambda: self.batcher.waiting)
        self.batcher = Batcher(
            self._run,
            batch_size=predictor.engine.batch_size,
            max_queue=max_queue,
            max_wait=max_wait,
            on_batch=self.metrics.batch.observe,
        )

    def app(self) -> web.Application:
        """The application; its batcher starts and stops with it."""
        app = web.Application(middlewares=[self._around], client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/v1/models", self._models),
                web.get("/v1/models/{model}", self._model),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._completions),
                web.post("/predict", self._predict),
            ]
        )

        async def start(app: web.Application) -> None:
            self.batcher.start()

        async def stop(app: web.Application) -> None:
            await self.batcher.close()

        app.on_startup.append(start)
        app.on_shutdown.append(stop)
        return app

    def _run(self, key: Request | Complete, items: list[tuple[Example, int]]) -> list[Any]:
        """A batch; in the student's thread."""
        examples, streams = [example for example, _ in items], [stream for _, stream in items]
        if isinstance(key, Request):
            return self._predictor.predict_examples(examples, key, streams)
        return complete(
            self._predictor.engine,
            key.form,
            examples,
            key.decoding,
            streams,
            targets_length=self._predictor.student.lengths["targets"],
            with_pieces=key.with_pieces,
        )

    def warm_up(self) -> None:
        """Answers once, so that the first client does not wait for the compiler."""
        key = Complete(self._forms[self._name], Decoding(), False)
        self._run(key, [(Example("warm up", "warm up"), 0)])

    @web.middleware
    async def _around(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Checks the key, counts, and turns whatever goes wrong into an error that OpenAI's clients read."""
        route = getattr(request.match_info.route.resource, "canonical", "other")
        began = time.monotonic()
        response = await self._answer(request, handler)
        self.metrics.requests.labels(route, response.status).inc()
        self.metrics.seconds.labels(route).observe(time.monotonic() - began)
        return response

    async def _answer(self, request: web.Request, handler) -> web.StreamResponse:
        try:
            if self._key is not None and request.path not in ("/health", "/metrics"):
                given = request.headers.get("Authorization", "").removeprefix("Bearer ")
                if not hmac.compare_digest(given.encode(), self._key.encode()):
                    raise BadRequest("no valid key: send it as a bearer token", status=401)
            return await handler(request)
        except BadRequest as error:
            body = error_body(str(error), "invalid_request_error", error.param, error.code)
            return web.json_response(body, status=error.status)
        except UserError as error:
            return web.json_response(error_body(str(error), "invalid_request_error"), status=400)
        except web.HTTPException as error:
            return web.json_response(error_body(error.reason, "invalid_request_error"), status=error.status)
        except Full:
            body = error_body("the queue is full", "rate_limit_error", code="queue_full")
            return web.json_response(body, status=429, headers={"Retry-After": "1"})
        except Closed:
            body = error_body("the server is stopping", "server_error", code="stopping")
            return web.json_response(body, status=503, headers={"Retry-After": "5", "Connection": "close"})
        except TimeoutError:
            body = error_body(f"no answer within {self._timeout:g} s", "server_error", code="timeout")
            return web.json_response(body, status=503, headers={"Retry-After": "5"})
        except Exception:
            LOG.exception("error in %s", request.path)
            return web.json_response(error_body("internal error", "server_error"), status=500)

    async def _submit(self, key: Request | Complete, examples: list[Example], streams: list[int]) -> list[Any]:
        if len(examples) > self._max_queue:
            raise BadRequest(f"{len(examples)} inputs in a request: at most {self._max_queue} can wait")
        async with asyncio.timeout(self._timeout):
            return await self.batcher.submit(key, list(zip(examples, streams, strict=True)))

    async def _health(self, request: web.Request) -> web.Response:
        status = "stopping" if self.batcher.closed else "ok"
        body = {"status": status, "model": self._name, "step": self._predictor.step}
        return web.json_response(body, status=503 if self.batcher.closed else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        body = prometheus_client.generate_latest(self.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})

    def _described(self, model: str) -> dict[str, Any]:
        return {"id": model, "object": "model", "created": self._created, "owned_by": "distill_jax"}

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._described(model) for model in self._forms]})

    async def _model(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        self._form(model)
        return web.json_response(self._described(model))

    def _form(self, model: str) -> Form:
        if model not in self._forms:
            there = ", ".join(self._forms)
            raise BadRequest(f"no model {model!r}; there are {there}", "model", 404, "model_not_found")
        return self._forms[model]

    async def _chat(self, request: web.Request) -> web.Response:
        return await self._completed(protocol.read_chat(await _json(request)), chat=True)

    async def _completions(self, request: web.Request) -> web.Response:
        return await self._completed(protocol.read_completion(await _json(request)), chat=False)

    async def _completed(self, asked: protocol.CompletionRequest, *, chat: bool) -> web.Response:
        key = Complete(self._form(asked.model), asked.decoding, asked.likeliest is not None)
        if any(view.reads_rationale for view in key.form.views):
            raise BadRequest("this student reads a rationale with the input: use /predict")
        seed = random.getrandbits(32) if asked.seed is None else asked.seed
        examples = [Example(f"prompt {number}", text) for number, text in enumerate(asked.texts)]
        streams = [(seed + number) % (1 << 32) for number in range(len(examples))]
        answers = await self._submit(key, examples, streams)
        engine = self._predictor.engine
        read = engine.vocabulary.encode_batch(
            [view.inputs(example) for view in key.form.views for example in examples]
        )
        prompt_tokens = sum(min(len(ids) + 1, engine.inputs_length) for ids in read)
        cut = [[protocol.cut(answer, asked, engine.vocabulary) for answer in some] for some in answers]
        fingerprint = f"step-{self._predictor.step}"
        body = protocol.response_body(asked, cut, prompt_tokens, chat=chat, fingerprint=fingerprint)
        self.metrics.prompt_tokens.inc(prompt_tokens)
        self.metrics.completion_tokens.inc(body["usage"]["completion_tokens"])
        return web.json_response(body)

    async def _predict(self, request: web.Request) -> web.Response:
        body = await _json(request)
        unknown = sorted(set(body) - PREDICT_FIELDS)
        if unknown:
            raise BadRequest(
                f"unknown field {unknown[0]!r}: expected some of {', '.join(sorted(PREDICT_FIELDS))}"
            )
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or not inputs:
            raise BadRequest("inputs: expected a list of texts or objects", "inputs")
        asked = Request(
            label=protocol.flag(body, "label", True),
            rationale=protocol.flag(body, "rationale"),
            label_by=body.get("label_by") or "generate",
            normalize_scores=protocol.flag(body, "normalize_scores", False),
            decoding=protocol.decoding_of(
                body, protocol.number(body, "n_best", 1, 1, protocol.MAX_N), seeded=True
            ),
        )
        if not (asked.label or asked.rationale):
            raise BadRequest("neither label nor rationale is asked for")
        examples = [to_example(number, item) for number, item in enumerate(inputs)]
        self._predictor.check(examples, asked)
        answers = await self._submit(asked, examples, list(range(len(examples))))
        predictions = [dataclasses.asdict(answer) for answer in answers]
        return web.json_response({"model": self._name, "predictions": predictions})


async def _json(request: web.Request) -> Mapping[str, Any]:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from None
    if not isinstance(body, Mapping):
        raise BadRequest("the body is no JSON object")
    return body
