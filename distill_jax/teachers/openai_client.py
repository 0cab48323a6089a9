"""Any endpoint that speaks OpenAI's protocol, by the official SDK: chat or plain completions."""

import asyncio
import contextlib
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import openai

from distill_jax.teachers.http_errors import one_line, status_error
from distill_jax.teachers.messages import Answer, Reply, Request, TeacherError, Token
from distill_jax.teachers.secrets import api_key, checked_url

PROTOCOLS = ("chat", "completions")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class OpenAIClient:
    """OpenAI, vLLM, SGLang, llama.cpp, Ollama, … by `base_url`; see `messages.Client`.

    The SDK's own retries are off: `retrying` does them, so that they count against the limits.

    Args:
      model: as the endpoint calls it.
      base_url: None for OpenAI's.
      protocol: one of `PROTOCOLS`.
      key_variable: the environment variable with the key; a `base_url` may do without one.
      timeout: seconds that one request may take.
    """

    parser = None

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
        for name in ("temperature", "top_p"):
            if getattr(sampling, name) is not None:
                body[name] = getattr(sampling, name)
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.seed is not None:
            body["seed"] = request.seed
        if len(request.samples) > 1:
            body["n"] = len(request.samples)
        if sampling.logprobs:
            body |= (
                {"logprobs": True, "top_logprobs": sampling.logprobs}
                if chat
                else {"logprobs": sampling.logprobs}
            )
        if prompt.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": prompt.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | dict(sampling.extra_body or {})

    async def complete(self, request: Request) -> Reply:
        """See `messages.Client`."""
        with as_teacher_errors(self._timeout):
            async with asyncio.timeout(self._timeout):  # the SDK's own is one of each read, not of the whole
                path = "/chat/completions" if self.protocol == "chat" else "/completions"
                # The raw body: servers differ in more than the SDK's types allow, and checking costs time.
                answer = await self.sdk.post(path, cast_to=object, body=self.body(request))
        return read_reply(answer, self.protocol)

    async def close(self) -> None:
        """See `messages.Client`."""
        await self.sdk.close()


@contextlib.contextmanager
def as_teacher_errors(timeout: float) -> Iterator[None]:
    """Turns the SDK's errors into `TeacherError`."""
    try:
        yield
    except (openai.APITimeoutError, TimeoutError):
        raise TeacherError(f"no answer within {timeout:g} s", transient=True) from None
    except openai.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        message = str(body.get("message") or error.response.reason_phrase or "no message")
        raise status_error(error.status_code, message, error.response.headers, error.code) from None
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        raise TeacherError(
            one_line(f"connection failed: {type(cause).__name__} {cause}"), transient=True
        ) from None
    except (openai.OpenAIError, ValueError) as error:  # ValueError: a body that is no JSON
        raise TeacherError(one_line(f"not an answer: {type(error).__name__} {error}"), transient=True) from None


def read_reply(answer: Any, protocol: str) -> Reply:
    """A response's body as a `Reply`.

    Raises:
      TeacherError: transient, when there is no text in it: it has been seen to be cured by asking again.
    """
    try:
        choices = [_choice(choice, protocol) for choice in answer["choices"]]
        if not choices:
            raise ValueError("no choices")
        usage = answer.get("usage") or {}
        return Reply(
            choices,
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            answer.get("model"),
            answer.get("id"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"{type(error).__name__} {error}"
        raise TeacherError(one_line(f"not a completion: {what}"), transient=True) from None


def _choice(choice: Mapping[str, Any], protocol: str) -> Answer:
    if protocol == "chat":
        text = choice["message"]["content"]
        listed = (choice.get("logprobs") or {}).get("content") or ()
        tokens = [
            Token(t["token"], t["logprob"], {a["token"]: a["logprob"] for a in t.get("top_logprobs") or ()})
            for t in listed
        ]
    else:
        text, told = choice["text"], choice.get("logprobs") or {}
        tops = told.get("top_logprobs") or [{}] * len(told.get("tokens") or ())
        tokens = [
            Token(token, logprob or 0.0, top or {})
            for token, logprob, top in zip(
                told.get("tokens") or (), told.get("token_logprobs") or (), tops, strict=True
            )
        ]
    if text is None:  # a refusal, or a reasoning model that ran out of tokens: an answer, and paid for
        text = choice.get("message", {}).get("refusal") or ""
    if not isinstance(text, str):
        raise ValueError(f"expected text, got {text!r:.40}")
    return Answer(text, choice.get("finish_reason"), tuple(tokens) or None)
