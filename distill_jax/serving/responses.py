"""Bodies of responses, as OpenAI's clients read them."""

import dataclasses
import itertools
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.data.vocabularies import Vocabulary
from distill_jax.decoding.predict import Prediction
from distill_jax.serving.generation import Generation, Piece
from distill_jax.serving.requests import CompletionRequest, PredictRequest

Answers = Sequence[Sequence[tuple[Generation, str]]]  # those to each text, with the reasons why they end


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error: `kind` is OpenAI's word for whose fault it is, `param` the field."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def cut(generation: Generation, request: CompletionRequest, vocabulary: Vocabulary) -> tuple[Generation, str]:
    """An answer within the limits of a request, and why it ends: `stop` or `length`."""
    text, reason, limit = generation.text, "stop" if generation.ended else "length", request.token_limit
    if limit is not None and generation.tokens > limit:
        ids = vocabulary.encode(text)
        if len(ids) > limit:
            text, reason = vocabulary.decode(ids[:limit]), "length"
    places = [place for stop in request.stop if (place := text.find(stop)) >= 0]
    if places:
        text, reason = text[: min(places)], "stop"
    if text == generation.text:
        return generation, reason
    pieces, length = [], 0
    for piece in generation.pieces or ():
        length += len(piece.text)
        if length > len(text):
            break
        pieces.append(piece)
    tokens = min(generation.tokens, len(vocabulary.encode(text)))
    whole = None if generation.pieces is None else tuple(pieces)
    return Generation(text, tokens, generation.ended, whole), reason


def _chat_logprobs(pieces: Sequence[Piece], count: int) -> dict[str, Any]:
    def entry(text: str, log_prob: float) -> dict[str, Any]:
        return {"token": text, "logprob": log_prob, "bytes": list(text.encode())}

    content = [
        entry(piece.text, piece.log_prob) | {"top_logprobs": [entry(*best) for best in piece.likeliest[:count]]}
        for piece in pieces
    ]
    return {"content": content, "refusal": None}


def _completion_logprobs(pieces: Sequence[Piece], count: int) -> dict[str, Any]:
    texts = [piece.text for piece in pieces]
    return {
        "tokens": texts,
        "token_logprobs": [piece.log_prob for piece in pieces],
        "top_logprobs": [dict(piece.likeliest[:count]) for piece in pieces] if count else None,
        "text_offset": list(itertools.accumulate(map(len, texts), initial=0))[:-1],
    }


def response_body(
    request: CompletionRequest, answers: Answers, prompt_tokens: int, *, chat: bool, fingerprint: str
) -> dict[str, Any]:
    """The body of a response; `prompt_tokens` are those of all texts, `fingerprint` is the student's."""
    choices = []
    for generation, reason in (answer for of_text in answers for answer in of_text):
        choice: dict[str, Any] = {"index": len(choices), "finish_reason": reason, "logprobs": None}
        if chat:
            choice["message"] = {"role": "assistant", "content": generation.text, "refusal": None}
        else:
            choice["text"] = generation.text
        if generation.pieces is not None:
            show = _chat_logprobs if chat else _completion_logprobs
            choice["logprobs"] = show(generation.pieces, request.likeliest or 0)
        choices.append(choice)
    tokens = sum(generation.tokens for of_text in answers for generation, _ in of_text)
    total = prompt_tokens + tokens
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": fingerprint,
        "choices": choices,
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": total},
    }


def events(body: Mapping[str, Any], *, chat: bool, with_usage: bool) -> str:
    """The body of a response as server-sent events, as OpenAI's clients read a stream.

    A choice is a chunk with all of its text, and one with the reason why it ends. `with_usage` adds a chunk
    without choices that has the tokens.
    """
    shared = {name: value for name, value in body.items() if name not in ("choices", "usage")}
    shared |= {"object": "chat.completion.chunk"} if chat else {}
    shared |= {"usage": None} if with_usage else {}
    chunks = []
    for choice in body["choices"]:
        begun, ended = {**choice, "finish_reason": None}, {**choice, "logprobs": None}
        if chat:
            message = begun.pop("message")
            del ended["message"]
            begun["delta"], ended["delta"] = {"role": message["role"], "content": message["content"]}, {}
        else:
            ended["text"] = ""
        chunks += [shared | {"choices": [part]} for part in (begun, ended)]
    if with_usage:
        chunks.append(shared | {"choices": [], "usage": body["usage"]})
    return "".join(f"data: {line}\n\n" for line in (*map(json.dumps, chunks), "[DONE]"))


def prediction(answer: Prediction, request: PredictRequest) -> dict[str, Any]:
    """An answer of `/predict`, with no more texts than were asked for."""
    fields = dataclasses.asdict(answer)
    for name in ("labels", "rationales") if request.label_by == "generate" else ("rationales",):
        fields[name] = fields[name][: request.n_best]
    return fields
