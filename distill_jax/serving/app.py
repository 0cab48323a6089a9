"""The HTTP application: a student's routes."""

import asyncio
import dataclasses
import json
import logging
import pathlib
import random
import time
from typing import Any

import prometheus_client
from aiohttp import web

from distill_jax.config import Decoding, ServeConfig
from distill_jax.data.chat_forms import FIELD, ChatForms, placeholders, read_forms
from distill_jax.data.schema import Example
from distill_jax.decoding.microbatch import MicroBatcher
from distill_jax.decoding.predict import Request
from distill_jax.decoding.predictor import Predictor, to_example
from distill_jax.decoding.student import Student
from distill_jax.serving import requests, responses
from distill_jax.serving.generation import JSON, Form, forms, generate
from distill_jax.serving.middleware import Metrics, around
from distill_jax.serving.requests import BadRequest, CompletionRequest

MAX_BODY = 16 << 20  # bytes
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Generate:
    """Settings that all inputs of a batch of completions share."""

    form: Form
    decoding: Decoding
    with_pieces: bool


class Server:
    """A student's routes; clients must send `key` as a bearer token, unless it is None."""

    def __init__(self, predictor: Predictor, config: ServeConfig, key: str | None = None):
        name = config.name or pathlib.Path(config.model_dir).absolute().name
        self._predictor, self._name, self._key = predictor, name, key
        self._max_queue, self._timeout = config.max_queue, config.timeout
        self._chat_forms, template = _chat_and_template(predictor.student, config)
        by_suffix = forms(predictor.student.views, template)
        self._forms = {name + suffix: form for suffix, form in by_suffix.items()}
        self._created = int(time.time())
        self.metrics = Metrics(lambda: self.batcher.waiting)
        limits = {"batch_size": predictor.engine.batch_size, "max_queue": config.max_queue}
        limits["max_wait"] = config.max_wait_ms / 1000
        self.batcher = MicroBatcher(self._run, **limits, on_batch=self.metrics.batch.observe)

    def app(self) -> web.Application:
        """The application; its batcher closes with it."""
        middleware = around(self.metrics, self._key, self._timeout)
        app = web.Application(middlewares=[middleware], client_max_size=MAX_BODY)
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

        app.on_shutdown.append(lambda app: self.batcher.close())
        return app

    def _run(self, key: Request | Generate, items: list[tuple[Example, int]]) -> list[Any]:
        """Answers a batch; in the batcher's thread."""
        examples, streams = [example for example, _ in items], [stream for _, stream in items]
        if isinstance(key, Request):
            return self._predictor.predict_examples(examples, key, streams)
        length = self._predictor.student.lengths["targets"]
        settings = {"targets_length": length, "with_pieces": key.with_pieces}
        return generate(self._predictor.engine, key.form, examples, key.decoding, streams, **settings)

    def warm_up(self) -> None:
        """Answers once, so that the first client does not wait for compilation."""
        self._run(Generate(self._forms[self._name], Decoding(), False), [(Example("warm up", "warm up"), 0)])

    async def _submit(self, key: Request | Generate, examples: list[Example], streams: list[int]) -> list[Any]:
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
            known = ", ".join(self._forms)
            raise BadRequest(f"no model {model!r}; there are {known}", "model", 404, "model_not_found")
        return self._forms[model]

    async def _chat(self, request: web.Request) -> web.Response:
        return await self._completed(await _read(requests.ChatRequest, request), chat=True)

    async def _completions(self, request: web.Request) -> web.Response:
        return await self._completed(await _read(requests.PromptRequest, request), chat=False)

    async def _completed(self, asked: CompletionRequest, *, chat: bool) -> web.Response:
        key = Generate(self._form(asked.model), asked.decoding, asked.likeliest is not None)
        if any(view.reads_rationale for view in key.form.views):
            raise BadRequest("this student reads a rationale with the input: use /predict")
        asked.check_format([view.name for view in key.form.views] if key.form.json else None)
        seed = random.getrandbits(32) if asked.seed is None else asked.seed
        texts = asked.texts(self._chat_forms)
        examples = [Example(f"prompt {number}", text) for number, text in enumerate(texts)]
        streams = [(seed + number) % (1 << 32) for number in range(len(examples))]
        generations = await self._submit(key, examples, streams)
        engine = self._predictor.engine
        inputs = [view.inputs(example) for view in key.form.views for example in examples]
        lengths = [len(ids) + 1 for ids in engine.vocabulary.encode_batch(inputs)]
        prompt_tokens = sum(min(length, engine.inputs_length) for length in lengths)
        answers = [[responses.cut(each, asked, engine.vocabulary) for each in some] for some in generations]
        fingerprint = f"step-{self._predictor.step}"
        body = responses.response_body(asked, answers, prompt_tokens, chat=chat, fingerprint=fingerprint)
        self.metrics.prompt_tokens.inc(prompt_tokens)
        self.metrics.completion_tokens.inc(body["usage"]["completion_tokens"])
        return web.json_response(body)

    async def _predict(self, request: web.Request) -> web.Response:
        body = await _read(requests.PredictRequest, request)
        examples = [to_example(number, item) for number, item in enumerate(body.inputs)]
        self._predictor.check(examples, body.request)
        answers = await self._submit(body.request, examples, list(range(len(examples))))
        predictions = [dataclasses.asdict(answer) for answer in answers]
        return web.json_response({"model": self._name, "predictions": predictions})


def _chat_and_template(student: Student, config: ServeConfig) -> tuple[ChatForms, str | None]:
    """How a chat becomes an input, and the form of an answer: as given, or as the training rows were made."""
    made_by = read_forms((student.run.own_data or {}).get(FIELD)) or ChatForms()
    chat = made_by if config.chat_format is None else ChatForms(config.chat_format)
    fields = {"label"} if made_by.answer == JSON else placeholders(made_by.answer or "")
    missing = fields - {view.name for view in student.views}
    if config.template is None and missing:
        logger.warning("the rows' answers were %r: this student has no %s", made_by.answer, min(missing))
    return chat, config.template or (None if missing else made_by.answer)


async def _read(kind: type[requests.Kind], request: web.Request) -> requests.Kind:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from None
    return requests.read(kind, body)
