"""The HTTP application: a student's routes."""

import asyncio
import logging
import pathlib
import random
import time
from collections.abc import Sequence
from typing import Any

import prometheus_client
from aiohttp import web

from distill_jax.config import Decoding, ServeConfig
from distill_jax.data.chat_forms import FIELD, ChatForms, placeholders, read_forms
from distill_jax.data.schema import Example
from distill_jax.data.views import View
from distill_jax.decoding.batching import batch_sizes, bucket_length
from distill_jax.decoding.microbatch import Full, MicroBatcher
from distill_jax.decoding.predict import Request
from distill_jax.decoding.predictor import Predictor, to_example
from distill_jax.decoding.student import Student
from distill_jax.serving import openapi, page, requests, responses
from distill_jax.serving.batches import Generate, Item, make_items, programs
from distill_jax.serving.generation import JSON, Form, forms, generate
from distill_jax.serving.limits import check_settings, check_texts
from distill_jax.serving.middleware import Metrics, around
from distill_jax.serving.openapi import Route
from distill_jax.serving.requests import BadRequest, CompletionRequest

MAX_BODY = 16 << 20  # bytes
logger = logging.getLogger(__name__)


class Server:
    """A student's routes; clients must send `key` as a bearer token, unless it is None.

    `starting` is whether `warm_up` has still to end, which `/health` says.
    """

    def __init__(self, predictor: Predictor, config: ServeConfig, key: str | None = None):
        self.config, self.starting = config, False
        self._predictor, self._key = predictor, key
        self._name = config.name or pathlib.Path(config.model_dir).absolute().name
        self._chat_forms, template = _chat_and_template(predictor.student, config)
        by_suffix = forms(predictor.student.views, template)
        self._forms = {self._name + suffix: form for suffix, form in by_suffix.items()}
        self._created = int(time.time())
        self.metrics = Metrics(lambda: self.batcher.waiting)
        limits = {"batch_size": predictor.engine.batch_size, "max_queue": config.max_queue}
        limits["max_wait"] = config.max_wait_ms / 1000
        self.batcher = MicroBatcher(
            self._run, **limits, on_batch=self.metrics.batch.observe, programs=self._programs
        )

    def app(self) -> web.Application:
        """The application; its batcher closes with it."""
        middleware = around(self.metrics, self._key, self.config)
        app = web.Application(middlewares=[middleware], client_max_size=MAX_BODY)
        for route in self._routes():
            add = app.router.add_get if route.body is None else app.router.add_post
            add(route.path, route.handler)
        app.on_shutdown.append(lambda app: self.batcher.close())
        return app

    def _routes(self) -> list[Route]:
        chat, prompt, predict = requests.ChatRequest, requests.PromptRequest, requests.PredictRequest
        return [
            Route("/", self._page, "A page to try a text by hand"),
            Route("/openapi.json", self._openapi, "These routes, and the bodies of requests"),
            Route("/health", self._health, "200 when it is ready, else 503"),
            Route("/metrics", self._metrics, "Figures in Prometheus' text format"),
            Route("/v1/models", self._models, "The models"),
            Route("/v1/models/{model}", self._model, "One of them"),
            Route("/v1/chat/completions", self._chat, "OpenAI's chat completions", chat),
            Route("/v1/completions", self._completions, "OpenAI's text completions", prompt),
            Route("/predict", self._predict, "Labels, rationales, probabilities", predict),
        ]

    def _programs(self, key: Request | Generate, items: list[Item]) -> set[tuple]:
        return programs(self._predictor.engine, key, items)

    def _run(self, key: Request | Generate, items: list[Item]) -> list[Any]:
        """Answers a batch; in a thread of the batcher's."""
        examples, streams = [item.example for item in items], [item.stream for item in items]
        if isinstance(key, Request):
            return self._predictor.predict_examples(examples, key, streams)
        length = self._predictor.student.lengths["targets"]
        settings = {"targets_length": length, "with_pieces": key.with_pieces}
        return generate(self._predictor.engine, key.form, examples, key.decoding, streams, **settings)

    async def warm_up(self) -> None:
        """Decodes greedily inputs of all padded lengths up to the option's, in batches of all padded sizes.

        It leaves the programs of most requests compiled. Clients are answered in between.
        """
        engine, form = self._predictor.engine, self._forms[self._name]
        key, longest, length = Generate(form, Decoding(), False), 0, bucket_length(1)
        while length <= self.config.warm_up and longest < engine.inputs_length:
            item = self._of_length(form, length)
            for size in batch_sizes(engine.batch_size):
                await self._warm_up(key, [item] * min(size, self.config.max_queue))
            longest, length = max(item.lengths), 2 * length
        self.starting = False

    def _of_length(self, form: Form, length: int) -> Item:
        """An input of `length` tokens, or the nearest below; the shortest there is where that is longer."""
        for words in range(length, -1, -1):
            example = Example("warm up", "a " * words, rationale="a")
            [item] = make_items(self._predictor.engine, form.views, [example], [0])
            if max(item.lengths) <= length:
                break
        return item

    async def _warm_up(self, key: Generate, items: list[Item]) -> None:
        try:
            await self.batcher.submit(key, items)
        except Full:  # of what clients wait for: its programs are compiled when they are needed
            logger.warning("the queue was full while programs for %d inputs were to be compiled", len(items))

    async def _items(
        self, views: Sequence[View], examples: Sequence[Example], streams: Sequence[int]
    ) -> list[Item]:
        """Refuses what is more than the limits, and tokenizes; in a thread, as a text may be long."""

        def checked() -> list[Item]:
            check_texts(examples, self.config, self._predictor.engine.vocabulary)
            return make_items(self._predictor.engine, views, examples, streams)

        return await asyncio.to_thread(checked)

    async def _submit(self, key: Request | Generate, items: list[Item]) -> list[Any]:
        async with asyncio.timeout(self.config.timeout):
            return await self.batcher.submit(key, items)

    async def _page(self, request: web.Request) -> web.Response:
        text, policy = page.page(self._name, self._predictor.student, needs_key=self._key is not None)
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _openapi(self, request: web.Request) -> web.Response:
        document = openapi.description(self._name, self._routes(), needs_key=self._key is not None)
        return web.json_response(document)

    async def _health(self, request: web.Request) -> web.Response:
        status = "stopping" if self.batcher.closed else "starting" if self.starting else "ok"
        body = {"status": status, "model": self._name, "step": self._predictor.step}
        return web.json_response(body, status=200 if status == "ok" else 503)

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
            known = ", ".join(self._forms)
            raise BadRequest(f"no model {model!r}; there are {known}", "model", 404, "model_not_found")
        return self._forms[model]

    async def _chat(self, request: web.Request) -> web.Response:
        return await self._completed(await self._read(requests.ChatRequest, request), chat=True)

    async def _completions(self, request: web.Request) -> web.Response:
        return await self._completed(await self._read(requests.PromptRequest, request), chat=False)

    async def _completed(self, asked: CompletionRequest, *, chat: bool) -> web.Response:
        key = Generate(self._form(asked.model), asked.decoding, asked.likeliest is not None)
        if any(view.reads_rationale for view in key.form.views):
            raise BadRequest("this student reads a rationale with the input: use /predict")
        self._predictor.engine.check(key.decoding, likeliest=key.with_pieces)
        asked.check_format([view.name for view in key.form.views] if key.form.json else None)
        seed = random.getrandbits(32) if asked.seed is None else asked.seed
        texts = asked.texts(self._chat_forms)
        examples = [Example(f"prompt {number}", text) for number, text in enumerate(texts)]
        streams = [(seed + number) % (1 << 32) for number in range(len(examples))]
        items = await self._items(key.form.views, examples, streams)
        generations = await self._submit(key, items)
        vocabulary = self._predictor.engine.vocabulary
        answers = [
            [responses.cut(each, asked, vocabulary) for each in of_text[: asked.n]] for of_text in generations
        ]
        prompt_tokens = sum(sum(item.lengths) for item in items)
        fingerprint = f"step-{self._predictor.step}"
        body = responses.response_body(asked, answers, prompt_tokens, chat=chat, fingerprint=fingerprint)
        self.metrics.prompt_tokens.inc(prompt_tokens)
        self.metrics.completion_tokens.inc(body["usage"]["completion_tokens"])
        if not asked.stream:
            return web.json_response(body)
        with_usage = bool(asked.stream_options.get("include_usage"))
        events = responses.events(body, chat=chat, with_usage=with_usage)
        headers = {"Cache-Control": "no-store"}
        return web.Response(text=events, content_type="text/event-stream", charset="utf-8", headers=headers)

    async def _predict(self, request: web.Request) -> web.Response:
        body = await self._read(requests.PredictRequest, request)
        examples = [to_example(number, item) for number, item in enumerate(body.inputs)]
        self._predictor.check(examples, body.request)
        views = self._predictor.views(body.request)
        items = await self._items(views, examples, range(len(examples)))
        answers = await self._submit(body.request, items)
        predictions = [responses.prediction(answer, body) for answer in answers]
        return web.json_response({"model": self._name, "predictions": predictions})

    async def _read(self, kind: type[requests.Kind], request: web.Request) -> requests.Kind:
        try:
            async with asyncio.timeout(self.config.client_timeout):
                raw = await request.read()
        except TimeoutError:
            message = f"the body took longer than {self.config.client_timeout:g} s"
            raise BadRequest(message, status=408, code="slow_client") from None
        except web.RequestPayloadError as error:
            raise BadRequest(f"the body cannot be read: {error}") from None
        body = requests.read(kind, raw)
        check_settings(body, self.config)
        return body


def _chat_and_template(student: Student, config: ServeConfig) -> tuple[ChatForms, str | None]:
    """How a chat becomes an input, and the form of an answer: as given, or as the training rows were made."""
    made_by = read_forms((student.run.own_data or {}).get(FIELD)) or ChatForms()
    chat = made_by if config.chat_format is None else ChatForms(config.chat_format)
    fields = {"label"} if made_by.answer == JSON else placeholders(made_by.answer or "")
    missing = fields - {view.name for view in student.views}
    if config.template is None and missing:
        logger.warning("the rows' answers were %r: this student has no %s", made_by.answer, min(missing))
    return chat, config.template or (None if missing else made_by.answer)
