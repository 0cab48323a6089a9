"""OpenAI's completions protocol: bodies of requests to settings, answers to bodies; pure functions.

A student reads one input: the last message of the user, or the prompt. Demonstrations and a system message
would be no part of what it was trained on, and are left out.
"""

import dataclasses
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.decoding.engine import LIKELIEST, Decoding
from distill_jax.errors import UserError
from distill_jax.serving.completion import Completion, Piece

MAX_N = 64


class BadRequest(Exception):
    """What is wrong with a request, and where."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None):
        super().__init__(message)
        self.param = param
        self.status = status
        self.code = code


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def number(body: Mapping[str, Any], name: str, default: float | int, low: float, high: float) -> Any:
    """A number of a body, of the kind of `default`; null counts as absent.

    Raises:
      BadRequest: when it is none, or out of bounds.
    """
    value = body.get(name)
    if value is None:
        return default
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise BadRequest(f"{name}: expected {'an integer' if whole else 'a number'}, got {value!r:.40}", name)
    if not low <= value <= high:
        raise BadRequest(f"{name}: expected {low:g} to {high:g}, got {value}", name)
    return value


def flag(body: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """A boolean of a body; null counts as absent."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"{name}: expected true or false, got {value!r:.40}", name)
    return value


def decoding_of(body: Mapping[str, Any], n: int = 1, seeded: bool = False) -> Decoding:
    """How to decode: greedily unless the body says otherwise, with `n` beams where it asks for several texts.

    Args:
      body: with `temperature`, `top_p`, and beyond OpenAI's `top_k`, `num_beams` and `length_penalty`.
      n: texts to return.
      seeded: whether the body's `seed` is one of the decoding.
    """
    temperature = float(number(body, "temperature", 0.0, 0.0, 2.0))
    beams = number(body, "num_beams", 1 if temperature else n, 1, MAX_N)
    try:
        return Decoding(
            num_beams=beams,
            length_penalty=float(number(body, "length_penalty", 0.6, 0.0, 10.0)),
            temperature=temperature,
            top_k=number(body, "top_k", 0, 0, 1 << 20) if temperature else 0,
            top_p=float(number(body, "top_p", 1.0, 1e-6, 1.0)) if temperature else 1.0,
            n_best=n,
            seed=number(body, "seed", 0, 0, (1 << 32) - 1) if seeded else 0,
        )
    except UserError as error:
        raise BadRequest(str(error)) from None


@dataclasses.dataclass(frozen=True)
class CompletionRequest:
    """A request to either completions endpoint.

    Attributes:
      texts: inputs.
      model: name that was asked for.
      decoding: how.
      seed: of the samples; None for another each time.
      likeliest: alternatives to show of each token; None for no log-probabilities.
      max_tokens: of an answer; None for no bound but the student's.
      stop: texts at which an answer is cut.
    """

    texts: tuple[str, ...]
    model: str
    decoding: Decoding
    seed: int | None
    likeliest: int | None
    max_tokens: int | None
    stop: tuple[str, ...]


def _common(body: Mapping[str, Any]) -> dict[str, Any]:
    if flag(body, "stream"):
        raise BadRequest("stream: this server answers in one piece", "stream")
    for name in ("tools", "functions", "echo", "suffix"):
        if body.get(name):
            raise BadRequest(f"{name}: not for a student, which writes plain text", name)
    form = body.get("response_format")
    if form is not None and (not isinstance(form, Mapping) or form.get("type") != "text"):
        raise BadRequest("response_format: a student writes plain text", "response_format")
    if not isinstance(body.get("model"), str):
        raise BadRequest("model: expected the name of a model, see /v1/models", "model")
    stop = body.get("stop")
    stop = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise BadRequest("stop: expected a text or a list of texts", "stop")
    limits = [number(body, name, 0, 1, 1 << 20) for name in ("max_tokens", "max_completion_tokens")]
    n = number(body, "n", 1, 1, MAX_N)
    seed = None if body.get("seed") is None else number(body, "seed", 0, 0, (1 << 63) - 1) % (1 << 32)
    return {
        "model": body["model"],
        "decoding": decoding_of(body, n),
        "seed": seed,
        "max_tokens": min((limit for limit in limits if limit), default=None),
        "stop": tuple(stop),
    }


def read_chat(body: Mapping[str, Any]) -> CompletionRequest:
    """The body of a chat completion.

    Raises:
      BadRequest: for anything that cannot be done.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        raise BadRequest("messages: expected a list of messages", "messages")
    users = [message for message in messages if message.get("role") == "user"]
    if not users:
        raise BadRequest("messages: expected one of the role `user`: the student's input", "messages")
    content = users[-1].get("content")
    if isinstance(content, list):
        if not all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in content):
            raise BadRequest("messages: a student reads text only", "messages")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str) or not content.strip():
        raise BadRequest("messages: the last one of the role `user` has no text", "messages")
    likeliest = number(body, "top_logprobs", 0, 0, LIKELIEST) if flag(body, "logprobs") else None
    return CompletionRequest((content,), likeliest=likeliest, **_common(body))


def read_completion(body: Mapping[str, Any]) -> CompletionRequest:
    """The body of a completion of one prompt or several.

    Raises:
      BadRequest: for anything that cannot be done.
    """
    prompts = body.get("prompt")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if (
        not isinstance(prompts, list)
        or not prompts
        or not all(isinstance(p, str) and p.strip() for p in prompts)
    ):
        raise BadRequest("prompt: expected a text or a list of texts", "prompt")
    likeliest = None if body.get("logprobs") is None else number(body, "logprobs", 0, 0, LIKELIEST)
    return CompletionRequest(tuple(prompts), likeliest=likeliest, **_common(body))


def cut(completion: Completion, request: CompletionRequest, vocabulary) -> tuple[Completion, str]:
    """An answer within the bounds of a request, and why it ends: `stop` or `length`."""
    text, reason = completion.text, "stop" if completion.ended else "length"
    if request.max_tokens is not None and completion.tokens > request.max_tokens:
        ids = vocabulary.encode(text)
        if len(ids) > request.max_tokens:
            text, reason = vocabulary.decode(ids[: request.max_tokens]), "length"
    places = [place for stop in request.stop if (place := text.find(stop)) >= 0]
    if places:
        text, reason = text[: min(places)], "stop"
    if text == completion.text:
        return completion, reason
    pieces, kept = completion.pieces, []
    for piece in pieces or ():
        if sum(len(k.text) for k in kept) + len(piece.text) > len(text):
            break
        kept.append(piece)
    tokens = min(completion.tokens, len(vocabulary.encode(text)))
    return Completion(text, tokens, completion.ended, None if pieces is None else tuple(kept)), reason


def _chat_logprobs(pieces: Sequence[Piece], count: int) -> dict[str, Any]:
    def entry(text: str, log_prob: float) -> dict[str, Any]:
        return {"token": text, "logprob": log_prob, "bytes": list(text.encode())}

    content = [
        entry(piece.text, piece.log_prob) | {"top_logprobs": [entry(*best) for best in piece.likeliest[:count]]}
        for piece in pieces
    ]
    return {"content": content, "refusal": None}


def _completion_logprobs(pieces: Sequence[Piece], count: int) -> dict[str, Any]:
    offsets, length = [], 0
    for piece in pieces:
        offsets.append(length)
        length += len(piece.text)
    return {
        "tokens": [piece.text for piece in pieces],
        "token_logprobs": [piece.log_prob for piece in pieces],
        "top_logprobs": [dict(piece.likeliest[:count]) for piece in pieces] if count else None,
        "text_offset": offsets,
    }


def response_body(
    request: CompletionRequest,
    answers: Sequence[Sequence[tuple[Completion, str]]],
    prompt_tokens: int,
    *,
    chat: bool,
    fingerprint: str,
) -> dict[str, Any]:
    """The body of a response.

    Args:
      request: that is answered.
      answers: of each text its answers, with the reasons why they end.
      prompt_tokens: of all texts, as the student reads them.
      chat: whether it is a chat completion.
      fingerprint: of the student.
    """
    choices = []
    for completion, reason in (answer for of_text in answers for answer in of_text):
        choice: dict[str, Any] = {"index": len(choices), "finish_reason": reason, "logprobs": None}
        if chat:
            choice["message"] = {"role": "assistant", "content": completion.text, "refusal": None}
        else:
            choice["text"] = completion.text
        if completion.pieces is not None:
            show = _chat_logprobs if chat else _completion_logprobs
            choice["logprobs"] = show(completion.pieces, request.likeliest or 0)
        choices.append(choice)
    tokens = sum(completion.tokens for of_text in answers for completion, _ in of_text)
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": fingerprint,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
        },
    }
