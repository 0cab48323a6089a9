"""A completion as the store has it: its key, its text, and where it came from."""

import datetime
import math
from collections.abc import Sequence
from typing import Any

import distill_jax
from distill_jax.teachers import parsing
from distill_jax.teachers.jobs import Job, AnnotationPlan
from distill_jax.teachers.limits import Price
from distill_jax.teachers.messages import Answer, Reply, Token
from distill_jax.teachers.secrets import redact


def records(
    job: Job, reply: Reply, plan: AnnotationPlan, endpoint: str, price: Price | None, attempts: int, seconds: float
) -> list[dict[str, Any]]:
    """The store's lines for a reply; what the request cost is with the first of them."""
    request = job.request
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    lines = []
    for sample, completion in zip(request.samples, reply.completions, strict=False):
        line: dict[str, Any] = {
            "id": job.key.row_id,
            "sample": sample,
            "prompt": job.key.prompt,
            "model": plan.model,
            "sampling": plan.sampling.stored(),
            "text": redact(completion.text),
            "parser": plan.reads_by,
            "finish": completion.finish,
        }
        if completion.tokens:
            line["tokens"] = answer_tokens(completion, plan, request.example)
        line |= {
            "template": plan.template.version,
            "endpoint": endpoint,
            "served_model": redact(str(reply.model)) if reply.model else None,
            "request_id": redact(str(reply.request_id)) if reply.request_id else None,
            "seconds": round(seconds, 3),
            "time": now,
            "version": distill_jax.__version__,
            "requests": 0,
        }
        if not lines:
            usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
            line |= {"usage": usage, "requests": attempts, "usd": cost(reply, price)}
        lines.append(line)
    return lines


def cost(reply: Reply, price: Price | None) -> float | None:
    """Dollars of a reply; None without a price or the endpoint's word on tokens."""
    if price is None or reply.prompt_tokens is None or reply.completion_tokens is None:
        return None
    return price.of(reply.prompt_tokens, reply.completion_tokens)


def answer_tokens(completion: Answer, plan: AnnotationPlan, example) -> list[list]:
    """The tokens from the answer on, as JSON: the rationale's alternatives are of no use and much to store."""
    label = parsing.parser(plan.reads_by)(parsing.cut(completion.text, plan.sampling.stop)).label
    at = -1
    if label is not None:
        at = answer_start(completion.text, label, plan, example)
    if at < 0:
        return []
    kept, position = [], 0
    for token in completion.tokens:
        end = position + len(token.text)
        if end > at:
            told = {text: round(p, 5) for text, p in token.alternatives.items() if math.isfinite(p)}
            kept.append(
                [token.text[max(0, at - position) :] if position < at else token.text, token.logprob, told]
            )
            if position < at:  # of the alternatives too, only what comes after the answer's start
                skip = token.text[: at - position]
                kept[-1][2] = {t[len(skip) :]: p for t, p in told.items() if t.startswith(skip)}
        position = end
    return kept


def answer_start(text: str, label: str, plan: AnnotationPlan, example) -> int:
    """Where in the text the label begins, its letter included; -1 where it cannot be found."""
    return text.rfind(plan.template.label_text(example, label, plan.structured))


def stored_tokens(line: dict[str, Any]) -> Sequence[Token]:
    """The tokens of a stored completion."""
    return [Token(text, logprob, alternatives) for text, logprob, alternatives in line.get("tokens") or ()]
