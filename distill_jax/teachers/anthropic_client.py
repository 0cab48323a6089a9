"""Anthropic's models, by their SDK."""

import asyncio

import anthropic

from distill_jax.teachers.http_errors import one_line, status_error
from distill_jax.teachers.messages import Answer, Reply, Request, TeacherError
from distill_jax.teachers.secrets import api_key, checked_url


class AnthropicClient:
    """See `messages.Client`; one sample a request, no log-probabilities, no seed.

    Args:
      model: such as the provider's documentation names it.
      base_url: None for Anthropic's.
      key_variable: the environment variable with the key; default ANTHROPIC_API_KEY.
      timeout: seconds that one request may take.
    """

    protocol = "chat"
    parser = None

    def __init__(
        self, model: str, base_url: str | None = None, key_variable: str | None = None, timeout: float = 60.0
    ):
        self._sdk = anthropic.AsyncAnthropic(
            api_key=api_key(key_variable or "ANTHROPIC_API_KEY", needed=True),
            base_url=checked_url(base_url) if base_url else None,
            max_retries=0,
            timeout=timeout,
        )
        self.endpoint = str(self._sdk.base_url)
        self._model, self._timeout = model, timeout

    async def complete(self, request: Request) -> Reply:
        """See `messages.Client`."""
        sampling, prompt = request.sampling, request.prompt
        if sampling.logprobs or sampling.seed is not None:
            raise TeacherError("Anthropic's models take no --logprobs and no --seed", fatal=True)
        settings = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        body = {name: value for name, value in settings.items() if value is not None}
        # Refused by the endpoint: a stop text that is white space.
        if stops := [stop for stop in sampling.stop if stop.strip()]:
            body["stop_sequences"] = stops
        if prompt.instruction:
            body["system"] = prompt.instruction
        if prompt.schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": prompt.schema}}
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._sdk.post(
                    "/v1/messages",
                    cast_to=object,
                    body={
                        "model": self._model,
                        "max_tokens": sampling.max_tokens,
                        "messages": prompt.dialogue(),
                        **body,
                    },
                )
            text = "".join(block.get("text", "") for block in answer["content"])
            usage = answer.get("usage") or {}
        except (anthropic.APITimeoutError, TimeoutError):
            raise TeacherError(f"no answer within {self._timeout:g} s", transient=True) from None
        except anthropic.APIStatusError as error:
            raise status_error(error.status_code, error.message, error.response.headers) from None
        except (anthropic.AnthropicError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TeacherError(one_line(f"{type(error).__name__} {error}"), transient=True) from None
        return Reply(
            [Answer(text, answer.get("stop_reason"))],
            usage.get("input_tokens"),
            usage.get("output_tokens"),
            answer.get("model"),
            answer.get("id"),
        )

    async def close(self) -> None:
        """See `messages.Client`."""
        await self._sdk.close()
