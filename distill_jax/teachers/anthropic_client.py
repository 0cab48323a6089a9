"""Anthropic's models, by their SDK."""

import anthropic

from distill_jax.teachers.http_errors import no_answer, status_error
from distill_jax.teachers.messages import Answer, Reply, Request, TeacherError
from distill_jax.teachers.sdk_client import SdkClient


class AnthropicClient(SdkClient):
    """A model of Anthropic's; it takes no seed."""

    KEY_VARIABLE = "ANTHROPIC_API_KEY"

    def _connect(self, key: str, base_url: str | None) -> str:
        self._sdk = anthropic.AsyncAnthropic(
            api_key=key, base_url=base_url, max_retries=0, timeout=self._timeout
        )
        return str(self._sdk.base_url)

    async def _ask(self, request: Request) -> Reply:
        sampling, prompt = request.sampling, request.prompt
        if sampling.logprobs or sampling.seed is not None:
            raise TeacherError("Anthropic's models take no --logprobs and no --seed", fatal=True)
        settings = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # The endpoint refuses a stop text that is white space.
            "stop_sequences": [stop for stop in sampling.stop if stop.strip()] or None,
            "system": prompt.instruction or None,
        }
        body = {name: value for name, value in settings.items() if value is not None}
        body |= {"model": self._model, "max_tokens": sampling.max_tokens, "messages": prompt.dialogue()}
        if prompt.schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": prompt.schema}}
        answer = await self._sdk.post("/v1/messages", cast_to=object, body=body)
        text = "".join(block.get("text", "") for block in answer["content"])
        usage = answer.get("usage") or {}
        tokens = usage.get("input_tokens"), usage.get("output_tokens")
        thought = "".join(block.get("thinking", "") for block in answer["content"])
        answers = [Answer(text, answer.get("stop_reason"), thinking=thought)]
        return Reply(answers, *tokens, answer.get("model"), answer.get("id"))

    def _known_error(self, error: Exception) -> TeacherError | None:
        if isinstance(error, anthropic.APITimeoutError):
            return no_answer(self._timeout)
        if isinstance(error, anthropic.APIStatusError):
            return status_error(error.status_code, error.message, error.response.headers)
        return None

    async def close(self) -> None:
        await self._sdk.close()
