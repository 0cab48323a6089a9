"""e-SNLI's completions."""

from distill_jax.data.completions import UNPARSED, Completion


def parse_esnli(text: str) -> Completion:
    """`…`, a new line, `Answer: neutral`; of several answers to the question the first."""
    rationale, found, rest = text.split("Premise:")[0].partition("Answer: ")
    label = rest.split("Answer: ")[0].split("Premise")[0].strip()
    if not found or not label or "Answer:" in rationale:
        return UNPARSED
    return Completion(label, rationale.strip())
