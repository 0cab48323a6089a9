"""Vocabularies, with SeqIO's ids and without TensorFlow: 0 is padding, 1 the end, 2 unknown."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Sequence

import sentencepiece

from distill_jax.errors import UserError

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
EXTRA_IDS = 100  # sentinels of T5's pretraining, at the end of the ids


class ByteVocabulary:
    """UTF-8 bytes, id = byte + 3: `seqio.ByteVocabulary`, ByT5's."""

    extra_ids = 0
    vocab_size = 256 + 3
    fingerprint = "bytes"

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without the end token."""
        return [byte + 3 for byte in text.encode()]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Text up to the first end token; ids that are no byte are left out."""
        kept = bytes(i - 3 for i in _until_end(ids) if 3 <= i < 259)
        return kept.decode(errors="ignore")

    def save(self, folder: str | os.PathLike) -> None:
        """Writes what `load_vocabulary(folder)` reads."""
        _write_description(folder, {"kind": "bytes"})


class SentencePieceVocabulary:
    """A SentencePiece model; `extra_ids` sentinels follow its pieces, unless it holds them itself.

    As `seqio.SentencePieceVocabulary(path, extra_ids)`, except that a text which spells out
    `<extra_id_0>` is not given the sentinel's id.
    """

    def __init__(self, path: str | os.PathLike, extra_ids: int | None = None):
        path = pathlib.Path(path)
        try:
            self._model = path.read_bytes()
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self._model)
        except OSError as error:
            raise UserError(f"vocabulary {path}: {error.strerror}") from None
        except RuntimeError:
            raise UserError(f"vocabulary {path}: not a SentencePiece model") from None
        if self._processor.eos_id() != EOS_ID or self._processor.pad_id() not in (-1, PAD_ID):
            raise UserError(
                f"vocabulary {path}: expected padding 0 and end 1, as T5's, got "
                f"{self._processor.pad_id()} and {self._processor.eos_id()}"
            )
        pieces = self._processor.get_piece_size()
        if extra_ids is None:
            last = self._processor.id_to_piece(pieces - 1)
            extra_ids = 0 if "extra_id" in last else EXTRA_IDS
        self.extra_ids = extra_ids
        self.vocab_size = pieces + extra_ids
        self._pieces = pieces
        digest = hashlib.sha256(self._model + str(extra_ids).encode()).hexdigest()
        self.fingerprint = f"sentencepiece-{digest[:16]}"

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without the end token."""
        return self._processor.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, on all cores."""
        return self._processor.encode(list(texts), num_threads=os.cpu_count() or 1)

    def decode(self, ids: Iterable[int]) -> str:
        """Text up to the first end token; padding and sentinels are left out."""
        kept = [int(i) for i in _until_end(ids) if 0 < i < self._pieces]
        return self._processor.decode(kept)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes what `load_vocabulary(folder)` reads."""
        _write_description(folder, {"kind": "sentencepiece", "extra_ids": self.extra_ids})
        (pathlib.Path(folder) / "vocabulary.model").write_bytes(self._model)


Vocabulary = ByteVocabulary | SentencePieceVocabulary


def _until_end(ids: Iterable[int]) -> Iterable[int]:
    for i in ids:
        if i == EOS_ID:
            return
        yield i


def _write_description(folder: str | os.PathLike, description: dict) -> None:
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    (pathlib.Path(folder) / "vocabulary.json").write_text(json.dumps(description) + "\n")


def cache_dir() -> pathlib.Path:
    """Where prepared records and vocabularies are kept: DISTILL_JAX_CACHE or `~/.cache/distill_jax`."""
    return pathlib.Path(os.environ.get("DISTILL_JAX_CACHE") or "~/.cache/distill_jax").expanduser()


def _download(url: str) -> pathlib.Path:
    import fsspec

    target = cache_dir() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:16]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        try:
            with fsspec.open(url) as source:
                temporary.write_bytes(source.read())
        except (ImportError, OSError, ValueError) as error:
            raise UserError(f"vocabulary {url}: cannot be fetched: {error}") from error
        temporary.rename(target)
    return target


def load_vocabulary(spec: str | os.PathLike) -> Vocabulary:
    """Loads a vocabulary.

    Args:
      spec: `bytes`; a SentencePiece file or its URL (`gs://` and others with the matching fsspec
        package); or a folder that `save` wrote. (`train:SIZE` is for `prepare` to resolve.)

    Raises:
      UserError: when it cannot be read.
    """
    spec = str(spec)
    if spec == "bytes":
        return ByteVocabulary()
    if spec.startswith("train:"):
        raise UserError(f"vocabulary {spec!r} is made by prepare or train: run one of these first")
    if "://" in spec:
        return SentencePieceVocabulary(_download(spec))
    path = pathlib.Path(spec)
    if not path.is_dir():
        return SentencePieceVocabulary(path)
    try:
        description = json.loads((path / "vocabulary.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: no usable vocabulary.json in there: {error}") from None
    if description["kind"] == "bytes":
        return ByteVocabulary()
    return SentencePieceVocabulary(path / "vocabulary.model", description["extra_ids"])


def train_vocabulary(
    texts: Iterable[str], size: int, folder: pathlib.Path, extra_ids: int = EXTRA_IDS
) -> None:
    """Trains a SentencePiece unigram model and saves it, whole or not at all, in `folder`.

    Bytes stand in for what no piece covers, so no text is unknown.

    Raises:
      UserError: when the texts do not give a vocabulary of `size`.
    """
    import io

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            bos_id=-1,
            byte_fallback=True,
            character_coverage=1.0,
            hard_vocab_limit=False,
            input_sentence_size=1_000_000,
            shuffle_input_sentence=False,
            max_sentence_length=1 << 16,
            num_threads=1,  # the result depends on the number of threads
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f"vocabulary train:{size}: {' '.join(str(error).split())}") from None
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    (temporary / "vocabulary.model").write_bytes(model.getvalue())
    SentencePieceVocabulary(temporary / "vocabulary.model", extra_ids).save(temporary)
    if folder.exists():
        return
    temporary.rename(folder)
