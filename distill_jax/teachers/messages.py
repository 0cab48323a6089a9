"""What goes to a teacher and what comes back, whatever the teacher is."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from distill_jax.data.schema import Example

REFUSAL = "refusal"  # why an answer ended, where it says that the teacher will not answer


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the teacher samples its answers; None, 0 and () leave a setting to the endpoint.

    Attributes:
      temperature: 0 for greedy decoding.
      top_p: probability mass of the nucleus.
      max_tokens: per answer.
      stop: texts that end an answer.
      seed: of sample 0; sample k has `seed + k`.
      logprobs: number of alternatives to ask for at each token; 0 for no log-probabilities.
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
        """The settings that are set. They are part of a completion's key: a new setting changes no old key."""
        unset = {name for name in ("logprobs", "stop", "extra_body") if not getattr(self, name)}
        fields = dataclasses.asdict(self) | {"stop": list(self.stop)}
        return {name: value for name, value in fields.items() if value is not None and name not in unset}


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A question with the instruction and the demonstrations before it.

    Attributes:
      instruction: for the system message; "" for none.
      turns: (question, answer) of each demonstration.
      question: about the row.
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
        """As one text for the model to continue."""
        shown = [f"{question} {answer}" for question, answer in self.turns]
        return "\n\n".join([*([self.instruction] if self.instruction else []), *shown, self.question])

    def hash(self, protocol: str) -> str:
        """16 hex digits, of everything that the teacher sees."""
        parts = [protocol, self.instruction, self.turns, self.question, self.schema]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def size(self) -> int:
        """UTF-8 bytes of the whole text, from which its tokens are estimated."""
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
      text: as the endpoint sent it.
      finish: why it ended, as the endpoint says, such as `stop` or `length`; or `REFUSAL`.
      tokens: with log-probabilities, where they were asked for and came.
    """

    text: str
    finish: str | None = None
    tokens: tuple[Token, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Reply:
    """The answers to one request, and the tokens that it used.

    Attributes:
      answers: one or more samples.
      prompt_tokens: None where the endpoint does not report them.
      completion_tokens: of all samples together; None likewise.
      model: as the endpoint names it.
      request_id: for a complaint to the provider.
    """

    answers: Sequence[Answer]
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
        """Of its first sample."""
        return None if self.sampling.seed is None else self.sampling.seed + self.samples[0]


class TeacherError(Exception):
    """A request without an answer; the message is one line, free of keys.

    Attributes:
      transient: whether another attempt may succeed.
      retry_after: seconds that the endpoint asks to wait.
      fatal: whether every other request would fail too: a wrong key, an unknown model, no credit.
    """

    def __init__(
        self, message: str, *, transient: bool = False, retry_after: float | None = None, fatal: bool = False
    ):
        super().__init__(message)
        self.transient, self.retry_after, self.fatal = transient, retry_after, fatal


class Client(Protocol):
    """A teacher.

    Attributes:
      protocol: how prompts are laid out: `chat`, `completions`, or a client's own.
      endpoint: its address, for the provenance.
      parser: of its answers, where they do not follow the prompt's answer form; else None.
    """

    protocol: str
    endpoint: str
    parser: str | None

    async def complete(self, request: Request) -> Reply:
        """At most `len(request.samples)` answers; raises TeacherError."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...
