"""Any endpoint that speaks OpenAI's protocol, by the official SDK: chat or plain completions."""

import asyncio
import contextlib
import json
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import openai

from distill_jax.teachers.http_errors import (
    body_error,
    error_message,
    no_answer,
    one_line,
    status_error,
    unknown_error,
)
from distill_jax.teachers.messages import REFUSAL, Answer, Client, Reply, Request, TeacherError, Token
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
        raise status_error(error.status_code, message, error.response.headers, _name(error.code)) from None
    except openai.APIConnectionError as error:
        raise unknown_error(error.__cause__ or error, "connection failed: ") from None
    except (openai.OpenAIError, ValueError) as error:  # ValueError: a body that is no JSON
        raise unknown_error(error, "not an answer: ") from None


def read_reply(body: Any) -> Reply:
    """A response's body as a `Reply`; what is odd in it is left out, the text is kept.

    Raises:
      TeacherError: for an error in the body, by its code; transient where there is no answer in it: another
        attempt has been seen to bring one.
    """
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str):  # sent with another content type than JSON's
        if body.lstrip()[:1] == "<":
            raise TeacherError("got text/html, not JSON; does the address end in /v1?")
        try:
            body = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise unknown_error(error, "not a completion: ") from None
    if not isinstance(body, Mapping):
        raise TeacherError(one_line(f"not a completion: {body!r:.80}"), transient=True)
    listed = body.get("choices")
    choices = [choice for choice in listed if isinstance(choice, Mapping)] if isinstance(listed, list) else []
    answers = [answer for answer in map(_answer, choices) if answer is not None]
    if not answers:
        raise _error_in(body)
    usage = body["usage"] if isinstance(body.get("usage"), Mapping) else {}
    tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return Reply(answers, *tokens, _name(body.get("model")), _name(body.get("id")))


def _error_in(body: Mapping[str, Any]) -> TeacherError:
    """The error of a body without an answer, by the code in it."""
    error = body.get("error") or {}
    message = error_message(body)
    details = error if isinstance(error, Mapping) else body
    code = next((details[name] for name in ("code", "status", "type") if details.get(name)), None)
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return status_error(code, message or "no message")
    if message:
        return body_error(message, code)
    return TeacherError(
        one_line(f"not a completion: no choices with an answer in {body!r:.80}"), transient=True
    )


def _count(value: Any) -> int | None:
    """A number of tokens; None for anything else."""
    whole = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
    return int(value) if whole else None


def _name(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and value != "" else None


def _answer(choice: Mapping[str, Any]) -> Answer | None:
    """An answer; None where there is nothing that could be one."""
    message = choice.get("message")
    if not isinstance(message, Mapping):
        message = {"content": message} if isinstance(message, str) else choice
        if not {"text", "content", "finish_reason"} & set(message):
            return None
    finish = _name(choice.get("finish_reason"))
    text, thought = _texts(message.get("content", message.get("text")))
    apart = (message.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
    thought = next((part for part in apart if isinstance(part, str) and part), thought)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal and not text:
        text, finish = refusal, REFUSAL
    try:
        tokens = tuple(_tokens(choice.get("logprobs") or {}))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        tokens = ()  # the figures count the answers without
    return Answer(text, finish, tokens or None, thought)


def _texts(content: Any) -> tuple[str, str]:
    """(text, thinking) of a message's content: a text, nothing, or a list of parts."""
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        return (content if isinstance(content, str) else ""), ""
    texts, thoughts = [], []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            kind = str(part.get("type", "text"))
            value = next(
                (part[name] for name in ("text", "thinking", "reasoning", "content") if part.get(name)), ""
            )
            inner = value if isinstance(value, str) else "".join(_texts(value))
            (texts if kind in ("text", "output_text") else thoughts).append(inner)
    return "".join(texts), "".join(thoughts)


def _tokens(logprobs: Mapping[str, Any]) -> Iterator[Token]:
    """The tokens of either protocol; some servers send those of text completions for a chat too.

    Raises TypeError, ValueError, KeyError, AttributeError or OverflowError for what is none of both.
    """
    if "tokens" in logprobs:
        tokens, values = logprobs["tokens"] or (), logprobs["token_logprobs"] or ()
        listed = logprobs.get("top_logprobs") or [{}] * len(tokens)
        for token, value, alternatives in zip(tokens, values, listed, strict=True):
            yield Token(
                _shown(token), 0.0 if value is None else float(value), _numbers((alternatives or {}).items())
            )
        return
    for token in logprobs.get("content") or ():
        alternatives = token.get("top_logprobs") or ()
        others = ((token_text(each), each.get("logprob")) for each in alternatives)
        yield Token(token_text(token), float(token["logprob"]), _numbers(others))


def token_text(token: Mapping[str, Any]) -> str:
    """The text of a token, by its bytes where they are given."""
    data = token.get("bytes")
    if isinstance(data, list) and data and all(isinstance(b, int) and 0 <= b < 256 for b in data):
        return bytes(data).decode("utf-8", "surrogateescape")
    return _shown(token["token"])


def _shown(token: str) -> str:
    """A token as text: older models write one that is part of a character as `bytes:\\xe2\\x80`."""
    if not token.startswith("bytes:\\x"):
        return token
    return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", "")).decode("utf-8", "surrogateescape")


def _numbers(alternatives: Iterable[tuple[str, Any]]) -> dict[str, float]:
    return {token: float(value) for token, value in alternatives}
