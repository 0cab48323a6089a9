"""Bodies of requests as pydantic models: OpenAI's completions endpoints and `/predict`.

A student reads one input: the prompt, or what `ChatForms` makes of a chat, by default the last message of the
user. As OpenAI's clients expect, null counts as absent.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar

import pydantic
import pydantic_core
from pydantic import AfterValidator, BeforeValidator, Field

from distill_jax.config import Decoding
from distill_jax.data.chat_forms import ChatForms
from distill_jax.decoding.engine_base import LIKELIEST
from distill_jax.decoding.predict import Request
from distill_jax.errors import UserError

_TEXTS = "a text or a list of texts"
_MOST = 1 << 20  # of any number of beams, texts or tokens; `limits` has the server's own bounds


class BadRequest(UserError):
    """What is wrong with a request, and in which field."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None):
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


def _number(default: float | int | None, low: float, high: float | None = None) -> Any:
    kind = "a number" if isinstance(default, float) else "an integer"
    bounds = f"of at least {low:g}" if high is None else f"from {low:g} to {high:.15g}"
    return Field(default, ge=low, le=high, description=f"{kind} {bounds}")


def _flag(default: bool) -> Any:
    return Field(default, description="true or false")


def _refused(value: Any) -> Any:
    if value:
        raise ValueError("not supported: a student answers in plain text")
    return value


def _known_format(form: Any) -> Any:
    if not isinstance(form, Mapping) or form.get("type") not in ("text", "json_object", "json_schema"):
        raise ValueError("expected the type text, json_object or json_schema")
    return form


def _power_of_two(n: int) -> int:
    """The smallest that is not less than `n`."""
    return 1 << (n - 1).bit_length()


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_Text = Annotated[str, Field(min_length=1)]
_Input = Annotated[str, Field(pattern=r"\S")]
_Stop = Annotated[list[_Text], BeforeValidator(_listed, json_schema_input_type=_Text | list[_Text])]
_Prompt = Annotated[list[_Input], BeforeValidator(_listed, json_schema_input_type=_Input | list[_Input])]
_Unsupported = Annotated[Any, AfterValidator(_refused)]


class Body(pydantic.BaseModel):
    """What all bodies share: how to decode. `top_k` and `top_p` only count where `temperature` is above 0.

    Beams, and texts per input, are decoded in powers of two, so that few programs are compiled: 5 beams are 8.
    """

    model_config = pydantic.ConfigDict(strict=True, frozen=True)

    temperature: float = _number(0.0, 0.0, 2.0)
    top_p: float = _number(1.0, 1e-6, 1.0)
    top_k: int = _number(0, 0, _MOST)
    num_beams: int | None = _number(None, 1, _MOST)
    length_penalty: float = _number(1.0, 0.0, 10.0)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _present(cls, body: Mapping[str, Any]) -> dict[str, Any]:
        unread = set() if body.get("temperature") else {"top_k", "top_p"}
        unread |= {name for name in cls.model_fields if body.get(name) is None}
        return {name: value for name, value in body.items() if name not in unread}

    @pydantic.model_validator(mode="after")
    def _settings_agree(self) -> "Body":
        texts = self.texts_per_input
        if not self.temperature and texts > (self.num_beams or texts):
            raise ValueError(f"{texts} answers need as many num_beams, not {self.num_beams}, or a temperature")
        _ = self.decoding  # raises UserError for settings that exclude each other
        return self

    @property
    def texts_per_input(self) -> int:
        """How many texts the answer to an input has."""
        return 1

    @property
    def decoding(self) -> Decoding:
        """How to decode, greedily unless the body says otherwise; `n_best` may be more than was asked for.

        Where greedy decoding is to return several texts, it is beam search with as many beams.
        """
        n = _power_of_two(self.texts_per_input)
        settings = self.model_dump(include=set(Body.model_fields))
        settings["num_beams"] = _power_of_two(self.num_beams or (1 if self.temperature else n))
        return Decoding(**settings, n_best=n)


class CompletionRequest(Body):
    """What both of OpenAI's endpoints share; fields that it does not know are ignored.

    Subclasses have `texts`, the inputs of a student whose chats have these forms, and `likeliest`: how many
    alternatives to show of each token, None for no log-probabilities.
    """

    model: str = Field(description="the name of a model, see /v1/models")
    n: int = _number(1, 1, _MOST)
    seed: int | None = _number(None, 0, (1 << 63) - 1)
    stop: _Stop = Field([], description=_TEXTS)
    max_tokens: int | None = _number(None, 1, _MOST)
    max_completion_tokens: int | None = _number(None, 1, _MOST)
    response_format: Annotated[Any, AfterValidator(_known_format)] = None
    stream: bool = _flag(False)
    stream_options: dict[str, Any] = Field({}, description="an object with `include_usage`")
    tools: _Unsupported = None
    functions: _Unsupported = None
    echo: _Unsupported = None
    suffix: _Unsupported = None

    @property
    def texts_per_input(self) -> int:
        return self.n

    def check_format(self, fields: Collection[str] | None) -> None:
        """Raises BadRequest when it asks for JSON with other fields than `fields`, None for plain text."""
        asked = self.response_format or {}
        if asked.get("type", "text") == "text":
            return
        if fields is None:
            raise BadRequest(
                "response_format: this student writes plain text (serve --template json for JSON)",
                "response_format",
            )
        schema = asked.get("json_schema")
        schema = schema.get("schema") if isinstance(schema, Mapping) else None
        required = schema.get("required") if isinstance(schema, Mapping) else None
        required = required if isinstance(required, list) else []
        odd = next((name for name in required if name not in fields), None)
        if odd is not None:
            raise BadRequest(
                f"response_format: no field {odd!r}: this student writes {', '.join(fields)}", "response_format"
            )

    @property
    def token_limit(self) -> int | None:
        """Tokens of an answer at most; None for no limit but the student's."""
        return min(filter(None, (self.max_tokens, self.max_completion_tokens)), default=None)


class ChatRequest(CompletionRequest):
    """Body of `/v1/chat/completions`."""

    messages: list[dict[str, Any]] = Field(description="a list of messages")
    logprobs: bool = _flag(False)
    top_logprobs: int = _number(0, 0, LIKELIEST)

    def texts(self, forms: ChatForms) -> tuple[str, ...]:
        try:
            return (forms.text(self.messages),)
        except ValueError as error:
            raise BadRequest(f"messages: {error}", "messages") from None

    @property
    def likeliest(self) -> int | None:
        return self.top_logprobs if self.logprobs else None


class PromptRequest(CompletionRequest):
    """Body of `/v1/completions`."""

    prompt: _Prompt = Field(min_length=1, description=_TEXTS)
    logprobs: int | None = _number(None, 0, LIKELIEST)

    def texts(self, forms: ChatForms) -> tuple[str, ...]:
        del forms  # a prompt is the input itself
        return tuple(self.prompt)

    @property
    def likeliest(self) -> int | None:
        return self.logprobs


class PredictRequest(Body):
    """Body of `/predict`: the arguments of `Predictor.predict`; other fields are refused."""

    model_config = pydantic.ConfigDict(extra="forbid")

    inputs: list[Any] = Field(min_length=1, description="a list of texts or objects")
    label: bool = _flag(True)
    rationale: bool = _flag(False)
    label_by: str = Field("generate", description="a text")
    normalize_scores: bool = _flag(Request.normalize_scores)
    n_best: int = _number(1, 1, _MOST)
    seed: int = _number(0, 0, (1 << 32) - 1)

    @pydantic.model_validator(mode="after")
    def _asks_for_something(self) -> "PredictRequest":
        if not (self.label or self.rationale):
            raise ValueError("neither label nor rationale is asked for")
        return self

    @property
    def texts_per_input(self) -> int:
        return self.n_best

    @property
    def request(self) -> Request:
        """What to predict, and how."""
        label_by = self.label_by or "generate"
        decoding = dataclasses.replace(self.decoding, seed=self.seed)
        return Request(self.label, self.rationale, label_by, self.normalize_scores, decoding)


Kind = TypeVar("Kind", bound=Body)


def read(kind: type[Kind], text: bytes) -> Kind:
    """A body of JSON in UTF-8 as a model.

    Raises BadRequest for what is no such JSON, texts that no encoding can hold among it, and for anything that
    cannot be done, naming the field; UserError for settings that exclude each other.
    """
    try:
        body = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"the body is no JSON in UTF-8: {error}") from None
    if not isinstance(body, Mapping):
        raise BadRequest("the body is no JSON object")
    try:
        return kind.model_validate(body)
    except pydantic.ValidationError as errors:
        first = min(errors.errors(), key=lambda error: error["type"] != "extra_forbidden")
    name, error_type = first["loc"][0] if first["loc"] else None, first["type"]
    if error_type == "extra_forbidden":
        raise BadRequest(f"unknown field {name!r}: expected some of {', '.join(sorted(kind.model_fields))}")
    if error_type == "value_error":
        problem = str(first["ctx"]["error"])
    else:
        value = "" if error_type == "missing" else f", got {body[name]!r:.40}"
        problem = f"expected {kind.model_fields[name].description}{value}"
    raise BadRequest(f"{name}: {problem}" if name else problem, name)
