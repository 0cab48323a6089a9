"""Google's Gemini models, by their SDK."""

from google import genai
from google.genai import errors, types

from distill_jax.teachers.http_errors import status_error
from distill_jax.teachers.messages import Answer, Reply, Request, TeacherError
from distill_jax.teachers.sdk_client import SdkClient

_ROLES = {"user": "user", "assistant": "model"}


class GeminiClient(SdkClient):
    """A Gemini model."""

    KEY_VARIABLE = "GEMINI_API_KEY"

    def _connect(self, key: str, base_url: str | None) -> str:
        # The SDK makes one attempt unless it is given a retry policy.
        options = types.HttpOptions(timeout=int(self._timeout * 1000), base_url=base_url)
        self._sdk = genai.Client(api_key=key, vertexai=False, http_options=options)
        return base_url or "https://generativelanguage.googleapis.com/"

    async def _ask(self, request: Request) -> Reply:
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
        contents = [
            types.Content(role=_ROLES[turn["role"]], parts=[types.Part(text=turn["content"])])
            for turn in prompt.dialogue()
        ]
        answer = await self._sdk.aio.models.generate_content(
            model=self._model, contents=contents, config=config
        )
        candidate = answer.candidates[0]
        parts = candidate.content.parts if candidate.content else None
        text, thought = (
            "".join(p.text or "" for p in parts or () if bool(p.thought) == t) for t in (False, True)
        )
        usage, finish = answer.usage_metadata, candidate.finish_reason
        thoughts = (usage.thoughts_token_count or 0) if usage else 0
        return Reply(
            [Answer(text, finish.value if finish else None, thinking=thought)],
            usage.prompt_token_count if usage else None,
            (usage.candidates_token_count or 0) + thoughts if usage else None,
            answer.model_version,
            answer.response_id,
        )

    def _known_error(self, error: Exception) -> TeacherError | None:
        if not isinstance(error, errors.APIError):
            return None
        headers = getattr(error.response, "headers", None)
        return status_error(error.code, error.message or error.status or "", headers)

    async def close(self) -> None:
        await self._sdk.aio.aclose()
