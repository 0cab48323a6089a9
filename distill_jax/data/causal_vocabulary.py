"""The vocabulary of a decoder-only model: a tokenizer of the `tokenizers` library with ids of its own."""

import hashlib
import json

import tokenizers

from distill_jax.data.vocabulary_base import BaseVocabulary, description
from distill_jax.errors import UserError


class CausalVocabulary(BaseVocabulary):
    """A tokenizer such as byte-level BPE; the ids and texts are those of transformers.

    No id is padding. An input has what the tokenizer itself puts before a text, such as
    `<|begin_of_text|>`, and nothing after it: the target continues it. Between them is a line feed, or the end
    token before a rationale that shares its input with a label. A line feed also stands for each `</s>` of a
    text: after its end token a model forgets what was before.

    Args:
      content: of `tokenizer.json`.
      end: the token that ends a target.
      name: of the file, for error messages.

    Raises:
      UserError: when `content` is no tokenizer, or has no such token.
    """

    pad_id = None
    after = ()

    def __init__(self, content: str, end: str, name: str = "vocabulary"):
        try:
            tokenizer = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # the library raises no kind of its own
            raise UserError(f"{name}: not a tokenizer of the tokenizers library: {error}") from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        eos_id = tokenizer.token_to_id(end)
        if eos_id is None:
            raise UserError(f"{name}: has no token {end!r}, which is to end a text")
        self.content, self.end, self._tokenizer = content, end, tokenizer
        self.eos_id = eos_id
        unknown = getattr(tokenizer.model, "unk_token", None)
        self.unk_id = None if unknown is None else tokenizer.token_to_id(unknown)
        framed = tokenizer.encode("a")
        first = framed.special_tokens_mask.index(0)
        self.before = tuple(framed.ids[:first])
        self.joint_id = tokenizer.encode("\n", add_special_tokens=False).ids[-1]
        self.starts = (self.joint_id, eos_id)
        self.vocab_size = max(tokenizer.get_vocab().values()) + 1
        canonical = json.dumps([json.loads(content), end], sort_keys=True)
        self.fingerprint = f"causal-{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"

    def _encode_parts(self, parts):
        return [encoding.ids for encoding in self._tokenizer.encode_batch(parts, add_special_tokens=False)]

    def _decode_ids(self, ids):
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def _files(self):
        return description(kind="causal", end=self.end) | {"tokenizer.json": self.content.encode()}
