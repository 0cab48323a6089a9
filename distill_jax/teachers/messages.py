"""What goes to a teacher and what comes back, whatever the teacher is."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from distill_jax.data.schema import Example


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the teacher is to answer; None, 0 and () leave a setting to the endpoint.

    Attributes:
      temperature: 0 for the likeliest answer.
      top_p: nucleus.
      max_tokens: of an answer.
      stop: texts that end an answer.
      seed: of sample 0; sample k has `seed + k`.
      logprobs: how many alternatives to each token are asked for; 0 for no log-probabilities.
      extra_body: further fields of OpenAI's protocol, such as `{"reasoning_effort": "low"}`.
    """

    temperature: float | None = 0.0
    top_p: float | None = None
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int = 0
    extra_body: Mapping[str, Any] | None = None

    def stored(self) -> dict[str, Any]:
        """The settings that are set: part of a completion's key, so that a new setting changes no old key."""
        unset = {name for name in ("logprobs", "stop", "extra_body") if not getattr(self, name)}
        fields = dataclasses.asdict(self) | {"stop": list(self.stop)}
        return {name: value for name, value in fields.items() if value is not None and name not in unset}


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A question with what comes before it.

    Attributes:
      instruction: for the system message; "" for none.
      turns: (question, answer) of each demonstration.
      question: what is to be answered.
      schema: JSON schema of the answer, for endpoints with structured output; None for free text.
    """

    instruction: str
    turns: tuple[tuple[str, str], ...]
    question: str
    schema: Mapping[str, Any] | None = None

    def messages(self) -> list[dict[str, str]]:
        """As a chat: demonstrations are earlier turns."""
        system = [{"role": "system", "content": self.instruction}] if self.instruction else []
        return system + self.dialogue()

    def dialogue(self) -> list[dict[str, str]]:
        """The chat without its system message."""
        turns = []
        for question, answer in self.turns:
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*turns, {"role": "user", "content": self.question}]

    def text(self) -> str:
        """As one text for the model to go on with."""
        shown = [f"{question} {answer}" for question, answer in self.turns]
        return "\n\n".join([*([self.instruction] if self.instruction else []), *shown, self.question])

    def hash(self, protocol: str) -> str:
        """Changes with anything the teacher would see; 16 hex digits."""
        parts = [protocol, self.instruction, self.turns, self.question, self.schema]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def size(self) -> int:
        """UTF-8 bytes of all of it, from which tokens are estimated."""
        return len(self.text().encode())


class Token(NamedTuple):
    """A token of an answer, its log-probability, and those of the alternatives, itself among them."""

    text: str
    logprob: float
    alternatives: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
      text: as it came.
      finish: why it ended, in the endpoint's words, such as `stop` or `length`.
      tokens: with log-probabilities, where they were asked for and are there.
    """

    text: str
    finish: str | None = None
    tokens: tuple[Token, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Reply:
    """The answers of one request, and what it used.

    Attributes:
      completions: one or more samples.
      prompt_tokens: None where the endpoint does not say.
      completion_tokens: of all samples together; None likewise.
      model: as the endpoint names it.
      request_id: for a complaint to the provider.
    """

    completions: Sequence[Answer]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str | None = None
    request_id: str | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """One call: the row, its prompt, and which samples are wanted of it (1 or more consecutive numbers)."""

    example: Example
    prompt: Prompt
    sampling: Sampling
    samples: tuple[int, ...] = (0,)

    @property
    def seed(self) -> int | None:
        """Of this call."""
        return None if self.sampling.seed is None else self.sampling.seed + self.samples[0]


class TeacherError(Exception):
    """A request without an answer; the message is one line, free of keys.

    Attributes:
      transient: worth another try.
      retry_after: seconds the endpoint asked to wait.
      fatal: no other request would fare better: a wrong key, an unknown model, no credit.
    """

    def __init__(
        self, message: str, *, transient: bool = False, retry_after: float | None = None, fatal: bool = False
    ):
        super().__init__(message)
        self.transient, self.retry_after, self.fatal = transient, retry_after, fatal


class Client(Protocol):
    """A teacher.

    Attributes:
      protocol: how prompts are laid out: `chat`, `completions`, or a client's own word.
      endpoint: where it is, for the provenance.
      parser: how its answers read where it does not follow the prompt's answer form; else None.
    """

    protocol: str
    endpoint: str
    parser: str | None

    async def complete(self, request: Request) -> Reply:
        """Answers with at most `len(request.samples)` samples; raises TeacherError."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...
