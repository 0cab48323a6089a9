"""The clients by name; each is imported when it is chosen. A missing package is named with its extra."""

import importlib
from collections.abc import Mapping
from typing import Any

from distill_jax.errors import UserError
from distill_jax.teachers.messages import Client

# name -> (module, class, extra of this package, packages that the extra installs)
CLIENTS = {
    "openai": ("openai_client", "OpenAIClient", "teachers", "openai"),
    "anthropic": ("anthropic_client", "AnthropicClient", "anthropic", "anthropic"),
    "gemini": ("gemini_client", "GeminiClient", "gemini", "google-genai"),
    "transformers": ("transformers_client", "TransformersClient", "transformers", "transformers and torch"),
    "checkpoint": ("checkpoint_client", "CheckpointClient", "", ""),
}


def make_client(name: str, options: Mapping[str, Any]) -> Client:
    """The client of that name.

    Raises:
      UserError: for an unknown name or option, and where a package is not installed.
    """
    if name not in CLIENTS:
        raise UserError(f"unknown client {name!r}: expected one of {', '.join(CLIENTS)}")
    module, class_name, extra, packages = CLIENTS[name]
    try:
        client = getattr(importlib.import_module(f"distill_jax.teachers.{module}"), class_name)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("distill_jax"):
            raise
        raise UserError(
            f"client {name} needs {packages}: pip install 'distill_jax[{extra}]' ({error})"
        ) from None
    return client(**options)
