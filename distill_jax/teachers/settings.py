"""From the options of `distill-jax annotate` to the parts of a session: client, plan, price."""

import json
from typing import Any

from distill_jax.config import AnnotateConfig
from distill_jax.errors import UserError
from distill_jax.teachers import demonstrations, prices, prompts
from distill_jax.teachers.clients import make_client
from distill_jax.teachers.jobs import AnnotationPlan
from distill_jax.teachers.messages import Client, Sampling
from distill_jax.teachers.rows import Rows

# Clients that ask an endpoint, and who is behind it, as `prices` has it; the others run in this process.
PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}


def client_of(config: AnnotateConfig) -> Client:
    """The teacher's client.

    Raises:
      UserError: for options of another client, without an API key, and where a package is missing.
    """
    options = {"model": config.model}
    if config.client in PROVIDERS:
        options |= {"base_url": config.base_url, "key_variable": config.api_key_env, "timeout": config.timeout}
    elif config.base_url or config.api_key_env:
        raise UserError(f"--client {config.client} runs in this process: no --base-url, no --api-key-env")
    if config.client == "openai":
        options |= {"protocol": config.protocol or "chat", "max_tokens_field": config.max_tokens_field}
        options |= {"omit": tuple(config.omit or ()), "system": config.system}
    elif config.max_tokens_field or config.omit or not config.system:
        raise UserError("--omit, --max-tokens-field and --no-system need --client openai")
    if config.client == "transformers":
        options |= {"protocol": config.protocol}
    if config.client == "checkpoint":
        options |= {"trust": config.trust, "engine": config.engine, "weights": config.weights}
    elif config.engine != "jax" or config.weights != "float32":
        raise UserError("--engine and --weights need --client checkpoint")
    return make_client(config.client, options)


def protocol_of(config: AnnotateConfig) -> str:
    """The protocol that the client will use, as far as that is known without making it."""
    by_client = {"transformers": config.protocol or "completions", "checkpoint": "checkpoint"}
    return by_client.get(config.client, config.protocol or "chat")


def plan_of(config: AnnotateConfig, rows: Rows, protocol: str, parser: str | None) -> AnnotationPlan:
    """What is asked of each row; `protocol` and `parser` are the client's.

    Raises:
      UserError: for options that exclude each other, and prompts or demonstrations that cannot be read.
    """
    template = prompts.load_template(config.prompt or rows.prompt)
    pool = template.demonstrations
    if config.demonstrations:
        pool = demonstrations.read_demonstrations(config.demonstrations)
    if config.structured and protocol == "completions":
        raise UserError("--structured needs --protocol chat")
    model = config.model
    if config.client == "checkpoint":
        from distill_jax.teachers.checkpoint_client import name_with_step

        model = name_with_step(model, config.engine, config.weights)
    return AnnotationPlan(
        template,
        demonstrations.selector(pool, config.select, config.shots, config.seed or 0),
        model,
        protocol,
        sampling_of(config, tuple(template.stop)),
        config.samples,
        config.samples_per_request,
        rows.classes,
        config.structured,
        parser,
    )


def sampling_of(config: AnnotateConfig, stop: tuple[str, ...]) -> Sampling:
    """How the teacher samples; `stop` is the prompt's.

    Raises:
      UserError: for several samples at temperature 0, and fields of a body that are no JSON object.
    """
    temperature = config.temperature
    if temperature is None:
        temperature = 0.0 if config.samples == 1 else 0.7
    if config.samples > 1 and temperature == 0:
        raise UserError("--samples above 1 needs a --temperature above 0: the samples would be all the same")
    return Sampling(
        temperature=None if temperature == "none" else temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        stop=stop,
        seed=config.seed,
        logprobs=config.logprobs,
        extra_body=_extra_body(config),
    )


def _extra_body(config: AnnotateConfig) -> dict[str, Any]:
    try:
        extra = json.loads(config.extra_body or "{}")
    except ValueError:
        extra = None
    if extra and config.client != "openai":
        raise UserError("--extra-body needs --client openai")
    if not isinstance(extra, dict):
        raise UserError(f"--extra-body: expected a JSON object, got {config.extra_body!r:.60}")
    return extra


def price_of(config: AnnotateConfig) -> prices.Price | None:
    """The price of the model; None where it is not known.

    Raises:
      UserError: where it is not known and there is a budget in dollars.
    """
    if config.price:
        price = prices.parse_price(config.price)
    elif config.client in PROVIDERS or config.prices:
        provider = PROVIDERS.get(config.client)
        price = prices.price_of(config.model, config.prices, provider, config.base_url)
    else:
        price = None
    if price is None and config.budget_usd is not None:
        raise UserError(f"no price of {config.model} is known: --budget-usd needs --price PROMPT,COMPLETION")
    if price is not None and config.batch:
        price = prices.Price(price.prompt, price.completion, config.batch_share)
    return price
