"""Prices of models: dollars per million tokens, from a flag or a table."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping

import yaml

from distill_jax import files
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


def price_of(model: str, table: str | None = None) -> Price | None:
    """The price of a model, whose name may end in a date or `-latest`; None where it is not listed.

    `table` is a YAML file of `name: [prompt, completion]`; None for the shipped one.

    Raises:
      UserError: for a file that cannot be read.
    """
    path = pathlib.Path(table) if table else pathlib.Path(__file__).parent / "prices.yaml"
    try:
        prices = yaml.safe_load(files.read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: invalid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(prices, Mapping):
        raise UserError(f"{path}: expected lines such as `gpt-4o-mini: [0.15, 0.60]`")
    name = next((n for n in prices if re.fullmatch(f"{re.escape(str(n))}{_VERSION}", model)), None)
    if name is None:
        return None
    try:
        return parse_price(",".join(str(part) for part in prices[name]))
    except TypeError:
        raise UserError(f"{path}: {name}: expected [prompt, completion]") from None
