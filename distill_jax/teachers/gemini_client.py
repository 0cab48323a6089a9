"""Google's Gemini models, by their SDK."""

import asyncio

from google import genai
from google.genai import errors, types

from distill_jax.teachers.http_errors import one_line, status_error
from distill_jax.teachers.messages import Answer, Reply, Request, TeacherError
from distill_jax.teachers.secrets import api_key, checked_url


class GeminiClient:
    """See `messages.Client`; one sample a request, no log-probabilities.

    Args:
      model: such as the provider's documentation names it.
      base_url: None for Google's.
      key_variable: the environment variable with the key; default GEMINI_API_KEY.
      timeout: seconds that one request may take.
    """

    protocol = "chat"
    parser = None

    def __init__(
        self, model: str, base_url: str | None = None, key_variable: str | None = None, timeout: float = 60.0
    ):
        options = types.HttpOptions(timeout=int(timeout * 1000))  # the SDK tries once unless told otherwise
        if base_url:
            options.base_url = checked_url(base_url)
        key = api_key(key_variable or "GEMINI_API_KEY", needed=True)
        self._sdk = genai.Client(api_key=key, vertexai=False, http_options=options)
        self.endpoint = base_url or "https://generativelanguage.googleapis.com/"
        self._model, self._timeout = model, timeout

    async def complete(self, request: Request) -> Reply:
        """See `messages.Client`."""
        sampling, prompt = request.sampling, request.prompt
        if sampling.logprobs:
            raise TeacherError("the Gemini client takes no --logprobs", fatal=True)
        config = types.GenerateContentConfig(
            system_instruction=prompt.instruction or None,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_output_tokens=sampling.max_tokens,
            stop_sequences=list(sampling.stop) or None,
            seed=request.seed,
            response_mime_type="application/json" if prompt.schema else None,
            response_json_schema=dict(prompt.schema) if prompt.schema else None,
        )
        roles = {"user": "user", "assistant": "model"}
        contents = [
            types.Content(role=roles[turn["role"]], parts=[types.Part(text=turn["content"])])
            for turn in prompt.dialogue()
        ]
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._sdk.aio.models.generate_content(
                    model=self._model, contents=contents, config=config
                )
            candidate = answer.candidates[0]
            parts = candidate.content.parts if candidate.content else None
            text = "".join(part.text or "" for part in parts or () if not part.thought)
        except TimeoutError:
            raise TeacherError(f"no answer within {self._timeout:g} s", transient=True) from None
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None)
            raise status_error(error.code, error.message or error.status or "", headers) from None
        except Exception as error:  # the SDK lets its transports' errors through, and has two of them
            raise TeacherError(one_line(f"{type(error).__name__} {error}"), transient=True) from None
        usage, finish = answer.usage_metadata, candidate.finish_reason
        thoughts = (usage.thoughts_token_count or 0) if usage else 0
        return Reply(
            [Answer(text, finish.value if finish else None)],
            usage.prompt_token_count if usage else None,
            (usage.candidates_token_count or 0) + thoughts if usage else None,
            answer.model_version,
            answer.response_id,
        )

    async def close(self) -> None:
        """See `messages.Client`."""
        await self._sdk.aio.aclose()
