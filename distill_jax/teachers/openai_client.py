"""Any endpoint that speaks OpenAI's protocol, by the official SDK: chat or plain completions."""

import asyncio
import contextlib
import json
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import openai

from distill_jax.teachers.http_errors import no_answer, status_error, unknown_error
from distill_jax.teachers.messages import REFUSAL, Answer, Client, Reply, Request, TeacherError, Token
from distill_jax.teachers.secrets import api_key, checked_url

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class OpenAIClient(Client):
    """OpenAI, vLLM, SGLang, llama.cpp, Ollama, … by `base_url`; None for OpenAI's own.

    The SDK's own retries are off: `retrying` makes them, so that they count against the limits. `protocol` is
    `chat` or `completions`; `key_variable` is the environment variable with the key, by default OPENAI_API_KEY,
    which may be unset with a `base_url`; `timeout` is in seconds per request.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        protocol: str = "chat",
        key_variable: str | None = None,
        timeout: float = 60.0,
    ):
        key = api_key(key_variable or "OPENAI_API_KEY", needed=base_url is None or bool(key_variable))
        own = base_url is not None and urllib.parse.urlsplit(base_url).hostname in LOOPBACK
        self.sdk = openai.AsyncOpenAI(
            base_url=checked_url(base_url) if base_url else None,
            # A proxy of the environment cannot reach this machine's own loopback.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False) if own else None,
            api_key=key or "none",  # the SDK asks for one; servers of one's own do not
            max_retries=0,
            timeout=timeout,
        )
        self.endpoint = checked_url(str(self.sdk.base_url))  # the SDK reads OPENAI_BASE_URL too
        self.protocol = protocol
        self.path = "/chat/completions" if protocol == "chat" else "/completions"
        self._model, self._timeout = model, timeout
        host = urllib.parse.urlsplit(self.endpoint).hostname or ""
        # OpenAI's newer models refuse `max_tokens`; other servers often know nothing else.
        newer = protocol == "chat" and host.endswith("openai.com")
        self._max_tokens = "max_completion_tokens" if newer else "max_tokens"

    def body(self, request: Request) -> dict[str, Any]:
        """The request as JSON, for a call or a line of a batch."""
        sampling, prompt = request.sampling, request.prompt
        chat = self.protocol == "chat"
        body: dict[str, Any] = {"model": self._model, self._max_tokens: sampling.max_tokens}
        body |= {"messages": prompt.messages()} if chat else {"prompt": prompt.text()}
        settings = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": request.seed}
        settings["stop"] = list(sampling.stop) or None
        body |= {name: value for name, value in settings.items() if value is not None}
        if len(request.samples) > 1:
            body["n"] = len(request.samples)
        if sampling.logprobs:
            count = sampling.logprobs
            body |= {"logprobs": True, "top_logprobs": count} if chat else {"logprobs": count}
        if prompt.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": prompt.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | dict(sampling.extra_body or {})

    async def complete(self, request: Request) -> Reply:
        try:
            return await self._ask(request)
        except TeacherError as error:
            if self._max_tokens != "max_tokens" or "max_completion_tokens" not in str(error):
                raise
            self._max_tokens = "max_completion_tokens"  # the endpoint names the field that it takes
            return await self._ask(request)

    async def _ask(self, request: Request) -> Reply:
        with as_teacher_errors(self._timeout):
            async with asyncio.timeout(self._timeout):  # the SDK's own limits each read, not the whole
                # The raw body: servers differ in more than the SDK's types allow, and checking costs time.
                body = await self.sdk.post(self.path, cast_to=object, body=self.body(request))
        return read_reply(body)

    async def close(self) -> None:
        await self.sdk.close()


@contextlib.contextmanager
def as_teacher_errors(timeout: float) -> Iterator[None]:
    """Turns the SDK's errors into `TeacherError`."""
    try:
        yield
    except (openai.APITimeoutError, TimeoutError):
        raise no_answer(timeout) from None
    except openai.APIStatusError as error:
        message = error_message(error.body) or error.response.reason_phrase or "no message"
        raise status_error(error.status_code, message, error.response.headers, error.code) from None
    except openai.APIConnectionError as error:
        raise unknown_error(error.__cause__ or error, "connection failed: ") from None
    except (openai.OpenAIError, ValueError) as error:  # ValueError: a body that is no JSON
        raise unknown_error(error, "not an answer: ") from None


def error_message(body: Any) -> str:
    """The message in the body of an error, whatever form it has; "" where there is none."""
    while isinstance(body, list | dict) and body:
        body = body[0] if isinstance(body, list) else body.get("error") or body.get("message")
    return body if isinstance(body, str) else ""


def read_reply(body: Any) -> Reply:
    """A response's body as a `Reply`.

    Raises:
      TeacherError: transient, when there is no text in it: another attempt has been seen to bring some.
    """
    try:
        if isinstance(body, str):  # sent with another content type than JSON's
            if body.lstrip()[:1] == "<":
                raise TeacherError("got text/html, not JSON; does the address end in /v1?", transient=True)
            body = json.loads(body)
        answers = [_answer(choice) for choice in body["choices"]]
        if not answers:
            raise ValueError("no choices")
        usage = body.get("usage") or {}
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        return Reply(answers, *tokens, body.get("model"), body.get("id"))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise unknown_error(error, "not a completion: ") from None


def _answer(choice: Mapping[str, Any]) -> Answer:
    finish, message = choice.get("finish_reason"), choice.get("message")
    text = choice["text"] if message is None else message.get("content")
    if isinstance(text, list):  # parts, those of the reasoning among them
        text = "".join(part["text"] for part in text if part.get("type") == "text")
    if text is None:  # a refusal, or a reasoning model that ran out of tokens: an answer, and paid for
        refusal = (message or {}).get("refusal")
        text, finish = refusal or "", REFUSAL if refusal else finish
    if not isinstance(text, str):
        raise ValueError(f"expected text, got {text!r:.40}")
    try:
        tokens = tuple(_tokens(choice.get("logprobs") or {}))
    except (KeyError, TypeError, ValueError, AttributeError):
        tokens = ()  # the figures count the answers without
    return Answer(text, finish, tokens or None)


def _tokens(logprobs: Mapping[str, Any]) -> Iterator[Token]:
    """The tokens of either protocol; some servers send those of text completions for a chat too."""
    if "tokens" in logprobs:
        tokens, values = logprobs["tokens"] or (), logprobs["token_logprobs"] or ()
        listed = logprobs.get("top_logprobs") or [{}] * len(tokens)
        for token, value, alternatives in zip(tokens, values, listed, strict=True):
            yield Token(token, value or 0.0, _numbers((alternatives or {}).items()))
        return
    for token in logprobs.get("content") or ():
        alternatives = ((each["token"], each["logprob"]) for each in token.get("top_logprobs") or ())
        yield Token(token["token"], float(token["logprob"]), _numbers(alternatives))


def _numbers(alternatives: Iterable[tuple[str, float]]) -> dict[str, float]:
    return {token: float(value) for token, value in alternatives}
