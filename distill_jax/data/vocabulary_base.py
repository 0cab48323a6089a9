"""What all vocabularies share; unless they say otherwise, 0 is padding, 1 the end, 2 unknown, as in SeqIO."""

import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Sequence

import tokenizers

from distill_jax import files
from distill_jax.errors import UserError, words_of

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
EXTRA_IDS = 100  # sentinels of T5's pretraining, at the end of the ids
END = "</s>"


class BaseVocabulary:
    """What all vocabularies share; the special ids are T5's unless a vocabulary says otherwise.

    Attributes:
      pad_id: of padding; None where no id is free for it.
      eos_id: of the end of a target.
      unk_id: of what the vocabulary cannot write; None where it can write everything.
      joint_id: stands for each `</s>` of a text, which joins two parts of it, such as premise and hypothesis.
      before: ids that come before an input.
      after: ids that come after it.
      starts: the first token that the decoder reads, by `View.start`.
      extra_ids: number of sentinels.
      vocab_size: the number of ids.
      fingerprint: the same for the same ids.
    """

    pad_id: int | None = PAD_ID
    eos_id: int = EOS_ID
    unk_id: int | None = UNK_ID
    joint_id: int = EOS_ID
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = (EOS_ID,)
    starts: tuple[int, int] = (PAD_ID, EOS_ID)
    extra_ids: int = 0
    vocab_size: int
    fingerprint: str

    def _encode_parts(self, parts: list[str]) -> list[list[int]]:
        raise NotImplementedError

    def _decode_ids(self, ids: list[int]) -> str:
        raise NotImplementedError

    @property
    def sentinels(self) -> tuple[int, ...]:
        """Ids that stand for spans taken out of a text, sentinel 0 first; T5's count down from the last id."""
        return ()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without the end token after it."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text; all cores work on them."""
        if not any(END in text for text in texts):
            return self._encode_parts(list(texts))
        split = [text.split(END) for text in texts]
        parts = iter(self._encode_parts([part for parts in split for part in parts]))
        joined = []
        for _, *others in split:
            joined.append(next(parts))
            for _ in others:
                joined[-1] = [*joined[-1], self.joint_id, *next(parts)]
        return joined

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that come after an input, without the end token; `decode` is the inverse."""
        return self.encode_batch(texts)

    def room(self, length: int) -> int:
        """Ids of an input's text that `frame` leaves of it."""
        return length - len(self.before) - len(self.after)

    def frame(self, ids: Sequence[int], length: int) -> list[int]:
        """The ids of an input as a student reads it, cut to `length` in all; one at least."""
        return [*self.before, *ids[: self.room(length)], *self.after] or [self.joint_id]

    def decode(self, ids: Iterable[int]) -> str:
        """Text up to the first end token; padding and ids that stand for no text are left out."""
        return self._decode_ids([int(i) for i in itertools.takewhile(lambda i: i != self.eos_id, ids)])

    def save(self, folder: str | os.PathLike) -> None:
        """Writes what `load_vocabulary(folder)` reads."""
        for name, content in self._files().items():
            with files.atomic_write(pathlib.Path(folder, name), binary=True) as file:
                file.write(content)

    def _files(self) -> dict[str, bytes]:
        raise NotImplementedError


class TokenizersVocabulary(BaseVocabulary):
    """One of Hugging Face's `tokenizers` library; the ids and texts are those of transformers.

    `content` is that of `tokenizer.json`, `name` the file's, for error messages. Raises UserError when
    `content` is no tokenizer.
    """

    def __init__(self, content: str, name: str):
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content)
        except BaseException as error:  # the library raises no kind of its own; a panic of Rust is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            why = words_of(error)
            raise UserError(f"{name}: not a tokenizer of the tokenizers library: {why:.200}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.content = content
        self.vocab_size = max(self._tokenizer.get_vocab().values(), default=-1) + 1

    def _encode_parts(self, parts):
        return [encoding.ids for encoding in self._tokenizer.encode_batch(parts, add_special_tokens=False)]

    def _decode_ids(self, ids):
        return self._tokenizer.decode(ids, skip_special_tokens=True)


def digest(content: str | bytes) -> str:
    """16 hex digits that tell one content from another."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def description(**fields: str | int) -> dict[str, bytes]:
    """The file that says what kind of vocabulary a folder holds."""
    return {"vocabulary.json": json.dumps(fields).encode() + b"\n"}
