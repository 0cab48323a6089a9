"""A completion as the store has it: its key, its text, its cost and its provenance."""

import datetime
import importlib.metadata
import math
from collections.abc import Mapping
from typing import Any

from distill_jax.data.schema import Example
from distill_jax.teachers import parsing, thinking
from distill_jax.teachers.jobs import AnnotationPlan, Job
from distill_jax.teachers.limits import Spent
from distill_jax.teachers.messages import Answer, Reply
from distill_jax.teachers.quality import as_bytes
from distill_jax.teachers.secrets import redact

_VERSION = importlib.metadata.version("distill_jax")  # read once: each line of a store has it
_PLACES = 100  # of a label's text in an answer that are tried


def records(
    job: Job, reply: Reply, plan: AnnotationPlan, endpoint: str, cost: Mapping[str, Any], seconds: float
) -> list[dict[str, Any]]:
    """The store's lines for a reply, one per sample.

    The `cost` of the request, see `paid`, is stored with the first; `seconds` are from the first attempt on.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    lines = []
    for sample, answer in zip(job.request.samples, reply.answers, strict=False):
        parts = thinking.split(answer.text, plan.reads_by)
        thought = "\n".join(filter(None, (answer.thinking.strip(), parts.thinking)))
        line: dict[str, Any] = {
            "id": job.key.row_id,
            "sample": sample,
            "prompt": job.key.prompt,
            "model": plan.model,
            "sampling": plan.sampling.stored(),
            "text": redact(parts.answer if parts.thinking else answer.text),
            "parser": plan.reads_by,
            "finish": answer.finish,
        }
        if thought:
            line["thinking"] = redact(thought)
        if answer.tokens:
            line["tokens"] = answer_tokens(answer, plan, job.request.example)
        line |= {
            "template": plan.template.version,
            "endpoint": endpoint,
            "served_model": redact(str(reply.model)) if reply.model else None,
            "request_id": redact(str(reply.request_id)) if reply.request_id else None,
            "seconds": round(seconds, 3),
            "time": now,
            "version": _VERSION,
            **({"requests": 0} if lines else cost),
        }
        lines.append(line)
    return lines


def paid(reply: Reply, used: Spent, priced: bool, attempts: int) -> dict[str, Any]:
    """What a request cost, as the store has it; the most it can have been where no tokens are reported."""
    usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    if None in usage.values():
        usage["at_most"] = used.tokens
    return {"usage": usage, "requests": attempts, "usd": used.usd if priced else None}


def answer_tokens(answer: Answer, plan: AnnotationPlan, example: Example) -> list[list]:
    """The tokens from the label on, as JSON: [text, log-probability, log-probability of each alternative].

    Those of the rationale are left out: nothing reads them, and they would be most of the store. Positions are
    counted in the tokens' own bytes. None are returned where the label cannot be found in them, or a
    log-probability is not finite.
    """
    stops = plan.sampling.stop
    written = b"".join(as_bytes(token.text) for token in answer.tokens).decode("utf-8", "surrogateescape")
    start = thinking.split(written, plan.reads_by).start
    text = parsing.cut(written[start:], stops)
    place = _place_of_label(text, plan, example)
    if place is None:
        return []
    begin = len(as_bytes(written[: start + place]))
    kept, position = [], 0
    for token in answer.tokens:
        own = as_bytes(token.text)
        skipped, position = own[: max(0, begin - position)], position + len(own)
        if position > begin:
            alternatives = {
                as_text(other[len(skipped) :]): round(logprob, 7)
                for other, logprob in ((as_bytes(text), p) for text, p in token.alternatives.items())
                if logprob != -math.inf and other.startswith(skipped)
            }
            if not all(map(math.isfinite, (token.logprob, *alternatives.values()))):
                return []
            kept.append([as_text(own[len(skipped) :]), token.logprob, alternatives])
    return kept


def _place_of_label(text: str, plan: AnnotationPlan, example: Example) -> int | None:
    """Where the label begins in an answer: where an answer that ended behind it would have that label."""
    read = parsing.parser(plan.reads_by)
    label = read(thinking.ended(text)).label
    shown = plan.template.label_text(example, label, plan.structured) if label else ""
    place = text.find(shown) if label else -1
    for _ in range(_PLACES):
        if place < 0:
            break
        ended_there = text[: place + len(shown)]
        if label in (
            read(ended_there).label,
            read(f"{ended_there}.").label,
        ):  # ANLI's answers end in a full stop
            return place
        place = text.find(shown, place + 1)
    return None


def as_text(data: bytes) -> str:
    """The inverse of `quality.as_bytes`: a byte that is part of a character becomes half a surrogate pair."""
    return data.decode("utf-8", "surrogateescape")
