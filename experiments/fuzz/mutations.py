"""New inputs from whole ones: bytes that are changed, and values of a tree that are replaced by odd ones."""

import contextlib
import copy
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.serialization

DEEP: Any = None
for _ in range(400):
    DEEP = [DEEP]
# fmt: off
ODD = (
    None, True, False, 0, -1, 1, 7, 1 << 31, 1 << 63, -(1 << 63), 10**30, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", " ", "a", "0", "\ud800", "\0", "../x", "/dev/zero", "{input}", "a" * 5000,
    [], {}, [[]], {"": None}, [None], {"a": {}}, DEEP,
)
# What readers have stumbled over elsewhere: depth, numbers, encodings, ends of lines, aliases, paths.
TOKENS = (
    b"[" * 500, b"{" * 500, b'{"a":' * 500, b"(" * 500, b"9" * 5000, b"-", b"1e999", b"NaN", b"null", b"[]",
    b"\0", b"\xff", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\r", b"\n", b'"', b"'", b"\\", b",", b":",
    b"&a [*a, *a]", b"*a", b"<<: ", b"!!python/object:os.system x", b"? ", b"../../x", b"\x1f\x8b\x08", b"%",
    b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0" * 64, b"import os\n", b"@os.system('x')", b"include ",
)
# fmt: on
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)


def _safetensors_tree(content: bytes) -> Any:
    length = int.from_bytes(content[:8], "little")
    return [json.loads(content[8 : 8 + length]), content[8 + length :].hex()]


def _safetensors(tree: Any) -> bytes:
    header = json.dumps(tree[0]).encode()
    return len(header).to_bytes(8, "little") + header + bytes.fromhex(tree[1])


# How a kind of content is read as a tree of values, and written.
FORMS: Mapping[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    "json": (json.loads, lambda tree: json.dumps(tree).encode()),
    "lines": (
        lambda content: [json.loads(line) for line in content.splitlines()],
        lambda tree: b"".join(json.dumps(line).encode() + b"\n" for line in tree),
    ),
    "msgpack": (flax.serialization.msgpack_restore, flax.serialization.msgpack_serialize),
    "safetensors": (_safetensors_tree, _safetensors),
}


class Mutator:
    """Makes inputs; the same seeds, form and number make the same ones.

    Args:
      seeds: whole inputs.
      form: of `FORMS`; None where they are no trees.
      number: of the random numbers.
    """

    def __init__(self, seeds: Sequence[bytes], form: str | None, number: int):
        self._seeds, self._random = list(seeds), random.Random(number)
        self._read, self._write = FORMS[form] if form else (None, None)

    def make(self, content: bytes | None = None) -> bytes:
        """A new input, of a given one or of one of the seeds."""
        pick = self._random
        content = pick.choice(self._seeds) if content is None else content
        if self._read is not None and pick.random() < 0.6:
            with contextlib.suppress(
                Exception
            ):  # an input that is no tree any more, or none that can be written
                tree = copy.deepcopy(self._read(content))
                for _ in range(pick.choice((1, 1, 2, 4))):
                    tree = self._spoil(tree)
                return self._write(tree)
        for _ in range(pick.choice((1, 1, 2, 4, 8))):
            content = self._change(content)
        return content

    def _spoil(self, tree: Any) -> Any:
        """The tree with one value, at any depth, that is another one, is missing, or has a name of another."""
        pick, place = self._random, tree
        parent, key = None, None
        while isinstance(place, dict | list) and len(place) and (parent is None or pick.random() < 0.8):
            parent, key = place, pick.choice(list(place) if isinstance(place, dict) else range(len(place)))
            place = parent[key]
        if parent is None:
            return pick.choice(ODD)
        what = pick.random()
        if what < 0.15:
            del parent[key]
        elif what < 0.25 and isinstance(parent, dict):
            parent[pick.choice(("", "x", "/", "..", key * 2 if isinstance(key, str) else "k"))] = parent.pop(
                key
            )
        elif what < 0.35:
            parent[key] = [place] if pick.random() < 0.5 else {"a": place}
        else:
            parent[key] = copy.deepcopy(pick.choice(ODD))
        return tree

    def _change(self, content: bytes) -> bytes:
        """The content with one change of its bytes."""
        pick, data = self._random, bytearray(content)
        start = pick.randrange(len(data) + 1)
        end = min(len(data), start + pick.choice((1, 2, 4, 16, 64)))
        what = pick.randrange(8)
        if what == 0 and data:
            data[min(start, len(data) - 1)] ^= 1 << pick.randrange(8)
        elif what == 1 and data:
            data[min(start, len(data) - 1)] = pick.choice(INTERESTING)
        elif what == 2:
            del data[start:end]
        elif what == 3:
            data[start:start] = data[start:end] * pick.choice((1, 2, 50))
        elif what == 4:
            data[start:end] = pick.choice(TOKENS)
        elif what == 5:
            data[start:start] = pick.choice(TOKENS)
        elif what == 6:
            del data[start:]
        else:
            other = pick.choice(self._seeds)
            data[start:end] = other[pick.randrange(len(other) + 1) :][:64]
        return bytes(data)
