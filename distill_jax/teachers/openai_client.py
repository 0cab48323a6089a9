"""Any endpoint that speaks OpenAI's protocol, by the official SDK: chat or plain completions."""

import asyncio
import contextlib
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

import openai

from distill_jax.teachers.http_errors import error_message, no_answer, status_error, unknown_error
from distill_jax.teachers.messages import Client, Reply, Request, TeacherError
from distill_jax.teachers.openai_reply import name_of, read_reply
from distill_jax.teachers.secrets import api_key, checked_url

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class OpenAIClient(Client):
    """OpenAI, vLLM, SGLang, llama.cpp, Ollama, … by `base_url`; None for OpenAI's own.

    The SDK's own retries are off: `retrying` makes them, so that they count against the limits. `protocol` is
    `chat` or `completions`; `key_variable` is the environment variable with the key, by default OPENAI_API_KEY,
    which may be unset with a `base_url`; `timeout` is in seconds per request. `max_tokens_field` is the field
    for the limit of tokens, by default the one that the endpoint takes; fields in `omit` are not sent; without
    `system` the instruction stands before the first question. Azure's address may end in `?api-version=…`.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        protocol: str = "chat",
        key_variable: str | None = None,
        timeout: float = 60.0,
        max_tokens_field: str | None = None,
        omit: Sequence[str] = (),
        system: bool = True,
    ):
        key = api_key(key_variable or "OPENAI_API_KEY", needed=base_url is None or bool(key_variable))
        own = base_url is not None and urllib.parse.urlsplit(base_url).hostname in LOOPBACK
        address, version = checked_url(base_url) if base_url else None, None
        if base_url and urllib.parse.urlsplit(base_url).query:  # Azure's `?api-version=…`
            address, _, query = base_url.partition("?")
            version = dict(urllib.parse.parse_qsl(query))
        azure = version is not None or ".azure." in (urllib.parse.urlsplit(base_url or "").hostname or "")
        self.sdk = openai.AsyncOpenAI(
            base_url=address,
            default_query=version,
            default_headers={"api-key": key} if azure and key else None,
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
        self._max_tokens = max_tokens_field or ("max_completion_tokens" if newer else "max_tokens")
        self._omit, self._system, self._given = set(omit), system, max_tokens_field is not None

    def body(self, request: Request) -> dict[str, Any]:
        """The request as JSON, for a call or a line of a batch."""
        sampling, prompt = request.sampling, request.prompt
        chat = self.protocol == "chat"
        body: dict[str, Any] = {"model": self._model, self._max_tokens: sampling.max_tokens}
        body |= {"messages": prompt.messages(self._system)} if chat else {"prompt": prompt.text()}
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
        body = {name: value for name, value in body.items() if name not in self._omit}
        return body | dict(sampling.extra_body or {})

    async def complete(self, request: Request) -> Reply:
        try:
            return await self._ask(request)
        except TeacherError as error:
            if self._given or self._max_tokens != "max_tokens" or "max_completion_tokens" not in str(error):
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
        message = error_message(error.body) or error_message(error.response.text)
        message = message or error.response.reason_phrase or "no message"
        raise status_error(error.status_code, message, error.response.headers, name_of(error.code)) from None
    except openai.APIConnectionError as error:
        raise unknown_error(error.__cause__ or error, "connection failed: ") from None
    except (openai.OpenAIError, ValueError) as error:  # ValueError: a body that is no JSON
        raise unknown_error(error, "not an answer: ") from None
