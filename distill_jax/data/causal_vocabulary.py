"""The vocabulary of a decoder-only model: a tokenizer of the `tokenizers` library with ids of its own."""

import json

from distill_jax.data.vocabulary_base import TokenizersVocabulary, description, digest
from distill_jax.errors import UserError

CUE = "\nAnswer"  # between an input and the first token of its target's start


class CausalVocabulary(TokenizersVocabulary):
    """A tokenizer such as byte-level BPE; the ids and texts are those of transformers.

    No id is padding. An input has what the tokenizer itself puts before a text, such as
    `<|begin_of_text|>`. Input and target read as a text that the model has seen the like of, so that it learns
    from few examples: the input, on the next line `Answer`, a colon, a space, the target. Before a rationale
    that shares its input with a label, the colon is the word `because`. A line feed also stands for each
    `</s>` of a text: after its end token a model forgets what was before.

    Args:
      content: of `tokenizer.json`.
      end: the token that ends a target.
      name: of the file, for error messages.

    Raises:
      UserError: when `content` is no tokenizer, or has no such token.
    """

    pad_id = None

    def __init__(self, content: str, end: str, name: str = "vocabulary"):
        super().__init__(content, name)
        tokenizer = self._tokenizer
        eos_id = tokenizer.token_to_id(end)
        if eos_id is None:
            raise UserError(f"{name}: has no token {end!r}, which is to end a text")
        self.end, self.eos_id = end, eos_id
        unknown = getattr(tokenizer.model, "unk_token", None)
        self.unk_id = None if unknown is None else tokenizer.token_to_id(unknown)
        framed = tokenizer.encode("a")
        first = framed.special_tokens_mask.index(0)
        self.before = tuple(framed.ids[:first])
        line_feed, colon, because, cue = self._encode_parts(["\n", ":", " because", CUE])
        self.joint_id, self.after = line_feed[-1], tuple(cue)
        self.starts = (colon[-1], because[0])
        canonical = json.dumps([json.loads(content), end, CUE], sort_keys=True)
        self.fingerprint = f"causal-{digest(canonical)}"

    def encode_targets(self, texts):
        return self.encode_batch([f" {text}" for text in texts])

    def _decode_ids(self, ids):
        return super()._decode_ids(ids).removeprefix(" ")

    def _files(self):
        return description(kind="causal", end=self.end) | {"tokenizer.json": self.content.encode()}
