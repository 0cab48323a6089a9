"""What goes to a teacher and what comes back, whatever the teacher is."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from distill_jax.data.schema import Example

_OVERLOADED = (429, 503, 529)  # 529 is Anthropic's
REFUSAL = "refusal"  # why an answer ended, where it says that the teacher will not answer
# Why an answer ended, in the endpoints' words -> what is wrong with it.
_TROUBLES = (
    (r"refus|filter|safety|prohibit|block|spii|recitation|guardrail|sensitive|moderat|toxic", "refused"),
    (r"length|max\w{0,20}tokens|token.?limit|context.?window", "cut"),
    (r"abort|error|cancel|interrupt|insufficient|incomplete|malformed|time.?(?:limit|out)", "broken"),
)


def trouble(finish: str | None, text: str) -> str:
    """What is wrong with an answer that ended for the reason `finish`.

    `refused`; `cut` by the limit of tokens; `broken` off by the endpoint; `empty`; or "", nothing.
    """
    found = (name for pattern, name in _TROUBLES if re.search(pattern, finish or "", re.IGNORECASE))
    return next(found, "" if text.strip() else "empty")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the teacher samples its answers; None, 0 and () leave a setting to the endpoint."""

    temperature: float | None = 0.0  # 0 for greedy decoding
    top_p: float | None = None
    max_tokens: int = 256  # per answer
    stop: tuple[str, ...] = ()  # texts that end an answer
    seed: int | None = None  # of sample 0; sample k has `seed + k`
    logprobs: int = 0  # alternatives to ask for at each token; 0 for no log-probabilities
    extra_body: Mapping[str, Any] | None = None  # of OpenAI's protocol, such as `{"reasoning_effort": "low"}`

    def stored(self) -> dict[str, Any]:
        """The settings that are set. They are part of a completion's key: a new setting changes no old key."""
        unset = {name for name in ("logprobs", "stop", "extra_body") if not getattr(self, name)}
        fields = dataclasses.asdict(self) | {"stop": list(self.stop)}
        return {name: value for name, value in fields.items() if value is not None and name not in unset}


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A question with the instruction and the demonstrations before it."""

    instruction: str  # for the system message; "" for none
    turns: tuple[tuple[str, str], ...]  # (question, answer) of each demonstration
    question: str
    schema: Mapping[str, Any] | None = None  # JSON schema of the answer; None for free text

    def messages(self, system: bool = True) -> list[dict[str, str]]:
        """As a chat: demonstrations are earlier turns; without `system` the first has the instruction."""
        if not self.instruction:
            return self.dialogue()
        if system:
            return [{"role": "system", "content": self.instruction}, *self.dialogue()]
        first, *rest = self.dialogue()
        return [first | {"content": f"{self.instruction}\n\n{first['content']}"}, *rest]

    def dialogue(self) -> list[dict[str, str]]:
        """The chat without its system message."""
        turns = []
        for question, answer in self.turns:
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*turns, {"role": "user", "content": self.question}]

    def text(self) -> str:
        """As one text for the model to continue."""
        shown = [f"{question} {answer}" for question, answer in self.turns]
        return "\n\n".join([*filter(None, [self.instruction]), *shown, self.question])

    def hash(self, protocol: str) -> str:
        """16 hex digits, of everything that the teacher sees."""
        parts = [protocol, self.instruction, self.turns, self.question, self.schema]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def size(self) -> int:
        """UTF-8 bytes of the whole text, from which its tokens are estimated."""
        return len(self.text().encode())


class Token(NamedTuple):
    """A token of an answer, its log-probability, and those of the alternatives, itself among them.

    A byte that is only part of a character stands in a text as Python's `surrogateescape` has it.
    """

    text: str
    logprob: float
    alternatives: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer, as the endpoint sent it."""

    text: str
    finish: str | None = None  # why it ended, in the endpoint's words, such as `stop` or `length`; or `REFUSAL`
    tokens: tuple[Token, ...] | None = None  # where log-probabilities were asked for and came
    thinking: str = ""  # what the endpoint sent apart from the text

    @property
    def trouble(self) -> str:
        """Why it can have no vote, see `trouble`; "" for an answer that may have one."""
        return trouble(self.finish, self.text)


@dataclasses.dataclass(frozen=True)
class Reply:
    """The answers to one request, and the tokens that it used, None where the endpoint does not report them."""

    answers: Sequence[Answer]  # one or more samples
    prompt_tokens: int | None = None
    completion_tokens: int | None = None  # of all samples together
    model: str | None = None  # as the endpoint names it
    request_id: str | None = None  # for a complaint to the provider


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

    `transient`: another attempt may succeed, after the `retry_after` seconds that the endpoint asks to wait.
    `fatal`: every other request would fail too: a wrong key, an unknown model, no credit. `status` is HTTP's.
    `timed_out`: there was no answer in time.
    """

    def __init__(
        self,
        message: str,
        *,
        transient: bool = False,
        retry_after: float | None = None,
        fatal: bool = False,
        status: int | None = None,
        timed_out: bool = False,
    ):
        super().__init__(message)
        self.transient, self.retry_after, self.fatal, self.status = transient, retry_after, fatal, status
        self.timed_out = timed_out

    @property
    def overloaded(self) -> bool:
        """Whether fewer requests at a time may help."""
        return self.timed_out or self.status in _OVERLOADED


class Client:
    """A teacher."""

    protocol: str = "chat"  # how prompts are laid out: `chat`, `completions`, or a client's own
    endpoint: str  # its address, for the provenance
    parser: str | None = None  # of its answers, where they do not follow the prompt's answer form
    batches: bool = False  # whether it answers together what it is asked at a time, in this process

    async def complete(self, request: Request) -> Reply:
        """At most `len(request.samples)` answers; raises TeacherError."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends its connections, if it has any."""
