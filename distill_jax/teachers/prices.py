"""Prices of models: dollars per million tokens, from a flag or a table."""

import dataclasses
import datetime
import importlib.metadata
import re
from collections.abc import Mapping

from distill_jax.config import yaml_files
from distill_jax.errors import UserError

_VERSION = r"(-\d[\d-]*|-latest)?"


@dataclasses.dataclass(frozen=True)
class Price:
    """Dollars per million tokens; `share` is the part of it that is charged, 0.5 for the batch API."""

    prompt: float
    completion: float
    share: float = 1.0

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Dollars."""
        return self.share * (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


def parse_price(text: str) -> Price:
    """Reads `0.15,0.60`.

    Raises:
      UserError: for anything else.
    """
    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError:
        prompt = completion = -1.0
    if not (0.0 <= prompt < 1e6 and 0.0 <= completion < 1e6):
        raise UserError(f"--price: expected PROMPT,COMPLETION in dollars per million tokens, got {text!r}")
    return Price(prompt, completion)


def price_of(
    model: str, table: str | None = None, provider: str | None = None, base_url: str | None = None
) -> Price | None:
    """The price of a model today, by the table of the package `genai-prices`; None where it is not listed.

    It is that of the `provider`, or of the one at `base_url`: a server of your own has none. `table` is a YAML
    file of `name: [prompt, completion]` that counts instead.

    Raises:
      UserError: for a file that cannot be read.
    """
    if table is None:
        return _listed(model, provider, base_url)
    prices = yaml_files.read(table)
    if not isinstance(prices, Mapping):
        raise UserError(f"{table}: expected lines such as `my-model: [0.15, 0.60]`")
    name = next((n for n in prices if re.fullmatch(f"{re.escape(str(n))}{_VERSION}", model)), None)
    if name is None:
        return None
    try:
        return parse_price(",".join(str(part) for part in prices[name]))
    except (TypeError, UserError):
        raise UserError(f"{table}: {name}: expected [prompt, completion], got {prices[name]!r:.60}") from None


def _listed(model: str, provider: str | None, base_url: str | None) -> Price | None:
    """The price by a short prompt and its answer: some providers ask for more where prompts are long."""
    import genai_prices  # a table of a thousand models: read when it is needed

    tokens = 1000
    usage = genai_prices.Usage(input_tokens=tokens, output_tokens=tokens)
    whose = {"provider_api_url": base_url} if base_url else {"provider_id": provider}
    try:
        cost = genai_prices.calc_price(usage, model, **whose)
    except LookupError:
        return None
    prompt, completion = (float(part or 0) * 1e6 / tokens for part in (cost.input_price, cost.output_price))
    return Price(prompt, completion)


def source_of(config_price: str | None, table: str | None) -> str:
    """Where a price comes from, with its date, in words."""
    if config_price or table:
        return "--price" if config_price else str(table)
    version = importlib.metadata.version("genai-prices")
    return f"genai-prices {version}, on {datetime.date.today().isoformat()}"
