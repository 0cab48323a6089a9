"""A completion as the store has it: its key, its text, its cost and its provenance."""

import datetime
import math
from collections.abc import Mapping
from typing import Any

import distill_jax
from distill_jax.data.schema import Example
from distill_jax.teachers import parsing
from distill_jax.teachers.jobs import AnnotationPlan, Job
from distill_jax.teachers.limits import Spent
from distill_jax.teachers.messages import Answer, Reply
from distill_jax.teachers.secrets import redact


def records(
    job: Job, reply: Reply, plan: AnnotationPlan, endpoint: str, cost: Mapping[str, Any], seconds: float
) -> list[dict[str, Any]]:
    """The store's lines for a reply, one per sample.

    The `cost` of the request, see `paid`, is stored with the first; `seconds` are from the first attempt on.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    lines = []
    for sample, answer in zip(job.request.samples, reply.answers, strict=False):
        line: dict[str, Any] = {
            "id": job.key.row_id,
            "sample": sample,
            "prompt": job.key.prompt,
            "model": plan.model,
            "sampling": plan.sampling.stored(),
            "text": redact(answer.text),
            "parser": plan.reads_by,
            "finish": answer.finish,
        }
        if answer.tokens:
            line["tokens"] = answer_tokens(answer, plan, job.request.example)
        line |= {
            "template": plan.template.version,
            "endpoint": endpoint,
            "served_model": redact(str(reply.model)) if reply.model else None,
            "request_id": redact(str(reply.request_id)) if reply.request_id else None,
            "seconds": round(seconds, 3),
            "time": now,
            "version": distill_jax.__version__,
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
    counted in the tokens' own text, which differs from the answer's where a token is part of a character. None
    are returned where the label cannot be found in them, or a log-probability is not finite.
    """
    stops = plan.sampling.stop
    label = parsing.parser(plan.reads_by)(parsing.cut(parsing.without_markup(answer.text), stops)).label
    if label is None:
        return []
    text = parsing.cut("".join(token.text for token in answer.tokens), stops)
    start = text.rfind(plan.template.label_text(example, label, plan.structured))
    if start < 0:
        return []
    kept, position = [], 0
    for token in answer.tokens:
        skipped, position = token.text[: max(0, start - position)], position + len(token.text)
        if position > start:
            alternatives = {
                text[len(skipped) :]: round(logprob, 5)
                for text, logprob in token.alternatives.items()
                if logprob != -math.inf and text.startswith(skipped)
            }
            if not all(map(math.isfinite, (token.logprob, *alternatives.values()))):
                return []
            kept.append([token.text[len(skipped) :], token.logprob, alternatives])
    return kept
