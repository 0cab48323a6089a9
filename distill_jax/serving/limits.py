"""What one request may ask for, so that no client takes the memory or the time of all."""

from collections.abc import Sequence

from distill_jax.config import ServeConfig
from distill_jax.data.schema import Example
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.serving.requests import BadRequest, Body


def check_settings(body: Body, config: ServeConfig) -> None:
    """Raises BadRequest for more beams or texts than `config` allows."""
    for name in ("n", "n_best", "num_beams"):
        if (getattr(body, name, None) or 1) > config.max_n:
            raise BadRequest(f"{name}: expected up to {config.max_n}, the server's --max-n", name)


def check_texts(examples: Sequence[Example], config: ServeConfig, vocabulary: Vocabulary) -> None:
    """Raises BadRequest for more inputs, texts or choices than `config` allows."""
    if len(examples) > config.max_queue:
        raise BadRequest(f"{len(examples)} inputs in a request: at most {config.max_queue} can wait")
    most = max((len(example.choices or ()) for example in examples), default=0)
    if most > config.max_choices:
        raise BadRequest(f"{most} choices: at most {config.max_choices} for an input")
    choices = [choice for example in examples for choice in example.choices or ()]
    texts = [text for example in examples for text in (example.input, example.rationale or "")]
    characters = sum(map(len, texts)) + sum(map(len, choices))
    if characters > config.max_text:
        raise BadRequest(f"{characters} characters of text: at most {config.max_text} in a request")
    distinct = list(dict.fromkeys(choices))
    tokens = dict(zip(distinct, map(len, vocabulary.encode_targets(distinct)), strict=True))
    if max(tokens.values(), default=0) > config.max_choice_tokens:
        longest = max(tokens, key=tokens.__getitem__)
        raise BadRequest(
            f"the choice {longest!r:.40} has {tokens[longest]} tokens: at most {config.max_choice_tokens}"
        )
    total = sum(tokens[choice] for choice in choices)
    if total > config.max_choices_tokens:
        raise BadRequest(f"choices of {total} tokens: at most {config.max_choices_tokens} in a request")
