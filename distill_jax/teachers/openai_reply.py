"""A body of OpenAI's protocol as an answer, however odd: what is odd is left out, a paid text is kept."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from distill_jax.data.labels import spelled
from distill_jax.teachers.http_errors import body_error, error_message, one_line, status_error, unknown_error
from distill_jax.teachers.messages import REFUSAL, Answer, Reply, TeacherError, Token

_TEXTS = ("text", "value", "thinking", "reasoning", "content", "summary")  # of a part
_THINKING = "reasoning_content reasoning thinking reasoning_details thinking_blocks".split()  # of a message
_CODES = "code status statusCode status_code error_code type".split()  # of an error
_EVENT = re.compile(r"(?:data|event|id|retry)?:")  # begins a stream of events


def read_reply(body: Any) -> Reply:
    """A response's body as a `Reply`; what is odd in it is left out, the text is kept.

    Raises:
      TeacherError: for an error in the body, by its code; transient where there is no answer in it: another
        attempt has been seen to bring one.
    """
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str):  # sent with another content type than JSON's
        body = body.lstrip("\ufeff \t\r\n")
        if body[:1] == "<":
            raise TeacherError("got text/html, not JSON; does the address end in /v1?")
        try:
            body = _of_events(body) if _EVENT.match(body) else json.loads(body)
        except (ValueError, RecursionError) as error:
            raise unknown_error(error, "not a completion: ") from None
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, Mapping) and isinstance(body.get("data"), Mapping) and "choices" in body["data"]:
        body = body["data"]
    if not isinstance(body, Mapping):
        raise TeacherError(one_line(f"not a completion: {body!r:.80}"), transient=True)
    choices = _choices(body)
    answers = [answer for answer in map(_answer, choices) if answer is not None]
    if not answers:
        failed = (choice for choice in choices if choice.get("error"))
        raise _error_in(next(failed, body))
    usage = body["usage"] if isinstance(body.get("usage"), Mapping) else {}
    written = any(answer.text or answer.thinking for answer in answers)
    prompt, completion = (
        next((count for name in names if (count := _count(usage.get(name))) is not None), None)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    # Some servers report 0 where they do not count.
    tokens = prompt or None, completion if completion or not written else None
    return Reply(answers, *tokens, name_of(body.get("model")), name_of(body.get("id")))


def _of_events(text: str) -> dict[str, Any]:
    """The body that a stream of events (`data: {…}` lines) amounts to, which a server sent all the same."""
    whole: dict[str, Any] = {}
    choices: dict[Any, dict[str, Any]] = {}
    for line in text.split("\n"):
        data = line.strip().removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        event = json.loads(data)
        if not isinstance(event, Mapping):
            continue
        whole |= {name: value for name, value in event.items() if value and name != "choices"}
        for part in _choices(event):
            choice = choices.setdefault(str(part.get("index")), {"message": {}})
            choice |= {
                name: value for name, value in part.items() if value and name not in ("delta", "message")
            }
            delta = part.get("delta") or part.get("message")
            for name, value in delta.items() if isinstance(delta, Mapping) else ():
                if isinstance(value, str) and name != "role":
                    choice["message"][name] = choice["message"].get(name, "") + value
    return whole | ({"choices": list(choices.values())} if choices else {})


def _choices(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The choices of a body, outside a list perhaps, or what other protocols have in their place."""
    listed = body.get("choices")
    if isinstance(listed, Mapping):
        listed = [listed] if {"message", "text", "delta"} & set(listed) else list(listed.values())
    if listed is None and not body.get("error") and (message := _message(body)) is not None:
        ends = (body.get(name) for name in ("finish_reason", "done_reason", "stop_reason"))
        listed = [{"message": message, "finish_reason": next(filter(None, ends), None)}]
    return [choice for choice in listed if isinstance(choice, Mapping)] if isinstance(listed, list) else []


def _message(body: Mapping[str, Any]) -> str | Mapping[str, Any] | None:
    """The only message of a body without choices; None for an error in words."""
    for name in ("message", "output", "content"):
        value = body.get(name)
        if isinstance(value, Mapping) and "content" in value:
            return value
        if isinstance(value, list) and (parts := [part for part in value if isinstance(part, Mapping)]):
            return {"content": [inner for part in parts for inner in _parts(part)]}
    names = ("generated_text", "output_text", "completion", *(["response"] if "done" in body else ()))
    return next((body[name] for name in names if isinstance(body.get(name), str)), None)


def _parts(item: Mapping[str, Any]) -> list[Any]:
    """The parts of an item of an `output`: those of a message, or the item itself, such as its reasoning."""
    inner = item.get("content")
    return inner if item.get("type", "message") == "message" and isinstance(inner, list) else [item]


def _error_in(body: Mapping[str, Any]) -> TeacherError:
    """The error of a body without an answer, by the code in it."""
    message = error_message(body)
    places = [place for place in (body.get("error"), body.get("base_resp"), body) if isinstance(place, Mapping)]
    codes = [str(place[name]) for place in places for name in _CODES if place.get(name)]
    status = next((int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)), None)
    if status is not None:
        return status_error(status, message or "no message")
    if message:
        return body_error(message, [code for code in codes if not code.isdecimal()])
    return TeacherError(
        one_line(f"not a completion: no choices with an answer in {body!r:.80}"), transient=True
    )


def _count(value: Any) -> int | None:
    """A number of tokens, or its digits; None for anything else."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:12])
    whole = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
    return int(value) if whole else None


def name_of(value: Any) -> str | None:
    """A name or a number as text; None for anything else."""
    return str(value) if isinstance(value, str | int) and value != "" else None


def _answer(choice: Mapping[str, Any]) -> Answer | None:
    """An answer; None where there is nothing that could be one."""
    message = choice.get("message") or choice.get("delta")
    if not isinstance(message, Mapping):
        message = {"content": message} if isinstance(message, str) else choice
        if not {"text", "content", "finish_reason"} & set(message):
            return None
    finish = name_of(choice.get("finish_reason"))
    text, thought = _texts(message.get("content", message.get("text")))
    apart = ("".join(_texts(message.get(name))) for name in _THINKING)
    thought = next(filter(None, apart), thought)
    if not text and choice.get("error"):
        return None
    text = text or _called(message)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal and not text:
        text, finish = refusal, REFUSAL
    try:
        tokens = tuple(_tokens(choice.get("logprobs") or {}))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        tokens = ()  # the figures count the answers without
    return Answer(text, finish, tokens or None, thought)


def _called(message: Mapping[str, Any]) -> str:
    """The arguments of a message's only tool call, which may be the answer as JSON; "" without one."""
    calls = message.get("tool_calls")
    call = calls[0] if isinstance(calls, list) and len(calls) == 1 else None
    function = call.get("function") if isinstance(call, Mapping) else message.get("function_call")
    arguments = function.get("arguments") if isinstance(function, Mapping) else None
    return arguments if isinstance(arguments, str) else ""


def _texts(content: Any) -> tuple[str, str]:
    """(text, thinking) of a message's content: a text, nothing, or a list of parts."""
    if isinstance(content, Mapping):
        known = {"type", *_TEXTS} & set(content)
        content = [content] if known else json.dumps(content, ensure_ascii=False)  # an answer that was parsed
    if not isinstance(content, list):
        plain = isinstance(content, str | int | float)
        return (spelled(content) if plain and not isinstance(content, str) else content if plain else ""), ""
    texts, thoughts = [], []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            kind = str(part.get("type", "text"))
            value = next((part[name] for name in _TEXTS if part.get(name)), "")
            inner = value if isinstance(value, str) else "".join(_texts(value))
            (texts if kind in ("text", "output_text", "summary_text") else thoughts).append(inner)
    return "".join(texts), "".join(thoughts)


def _tokens(logprobs: Mapping[str, Any]) -> Iterator[Token]:
    """The tokens of either protocol; some servers send those of text completions for a chat too.

    Raises TypeError, ValueError, KeyError, AttributeError or OverflowError for what is none of both.
    """
    if "tokens" in logprobs:
        tokens, values = logprobs["tokens"] or (), logprobs["token_logprobs"] or ()
        listed = logprobs.get("top_logprobs") or [{}] * len(tokens)
        for token, value, alternatives in zip(tokens, values, listed, strict=True):
            yield Token(
                _shown(token), 0.0 if value is None else float(value), _numbers((alternatives or {}).items())
            )
        return
    for token in logprobs.get("content") or ():
        alternatives = token.get("top_logprobs") or token.get("top_probs") or ()
        others = ((token_text(each), _logprob(each)) for each in alternatives)
        yield Token(token_text(token), _logprob(token), _numbers(others))


def _logprob(token: Mapping[str, Any]) -> float:
    """The log-probability of a token; llama.cpp's `post_sampling_probs` has its probability."""
    if "prob" not in token:
        return float(token["logprob"])
    return math.log(token["prob"]) if token["prob"] else -math.inf


def token_text(token: Mapping[str, Any]) -> str:
    """The text of a token, by its bytes where they are given."""
    data = token.get("bytes")
    if isinstance(data, list) and data and all(isinstance(b, int) and 0 <= b < 256 for b in data):
        return bytes(data).decode("utf-8", "surrogateescape")
    return _shown(token["token"])


def _shown(token: str) -> str:
    """A token as text: older models write one that is part of a character as `bytes:\\xe2\\x80`."""
    if not token.startswith("bytes:\\x"):
        return token
    return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", "")).decode("utf-8", "surrogateescape")


def _numbers(alternatives: Iterable[tuple[str, Any]]) -> dict[str, float]:
    return {token: float(value) for token, value in alternatives}
