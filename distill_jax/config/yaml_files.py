"""YAML files as data: plain values alone, each key once, and no more of it than a person writes."""

import os
from collections.abc import Hashable
from typing import Any

import yaml

from distill_jax import files
from distill_jax.errors import UserError, words_of

MOST_VALUES = 100_000  # that a file stands for: a few lines of aliases can stand for billions
# Beside its own errors, PyYAML lets those through of the values that it makes: dates, numbers, keys.
_ERRORS = (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)


_MERGE = "tag:yaml.org,2002:merge"  # of the key `<<`


class _Loader(yaml.SafeLoader):
    """Refuses a key that comes twice, of which YAML would take the last."""

    def construct_mapping(self, node, deep=False):
        keys = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in keys:
                raise UserError(f"line {key_node.start_mark.line + 1}: the key {key!r} comes twice")
            keys |= {key} if isinstance(key, Hashable) else set()
        return super().construct_mapping(node, deep)


def read(path: str | os.PathLike) -> Any:
    """The value of a YAML file: of mappings, lists, texts, numbers and dates.

    Raises:
      UserError: for a file that cannot be read, is no YAML, is nested too deeply, has a key twice, or stands
        for more than `MOST_VALUES` values.
    """
    text = files.read_text(path)
    try:
        value = yaml.load(text, _Loader)
        if _count(value, {}) > MOST_VALUES:
            raise UserError(f"more than {MOST_VALUES:,} values: its aliases repeat too much")
    except UserError as error:
        raise UserError(f"{path}, {error}") from None
    except _ERRORS as error:
        deep = "nested too deeply" if isinstance(error, RecursionError) else words_of(error)
        raise UserError(f"{path}: not YAML: {deep:.300}") from None
    return value


def _count(value: Any, known: dict[int, int]) -> int:
    """How many values one stands for; one in itself, by an alias, recurs until Python stops it."""
    if not isinstance(value, dict | list | set):
        return 1
    if id(value) not in known:
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(value)]
