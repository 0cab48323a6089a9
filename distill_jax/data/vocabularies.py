"""Vocabularies without TensorFlow: T5's, with SeqIO's ids, and those of decoder-only models.

`</s>` in a text is the end token, as in Hugging Face's tokenizers of T5: it joins premise and hypothesis.
"""

import io
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Iterable

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from distill_jax import files
from distill_jax.data import cache
from distill_jax.data.causal_vocabulary import CausalVocabulary
from distill_jax.data.vocabulary_base import (
    END,
    EOS_ID,
    EXTRA_IDS,
    PAD_ID,
    UNK_ID,
    BaseVocabulary,
    TokenizersVocabulary,
    description,
    digest,
)
from distill_jax.errors import UserError

log = logging.getLogger(__name__)


class ByteVocabulary(BaseVocabulary):
    """UTF-8 bytes, id = byte + 3: `seqio.ByteVocabulary`, ByT5's."""

    vocab_size = 256 + 3
    fingerprint = "bytes"

    def _encode_parts(self, parts):
        return [[byte + 3 for byte in part.encode()] for part in parts]

    def _decode_ids(self, ids):
        return bytes(i - 3 for i in ids if 3 <= i < 259).decode(errors="ignore")

    def _files(self):
        return description(kind="bytes")


GEMMA_END = "<eos>"
MOST_EXTRA_IDS = 10_000  # sentinels that a file may ask for


def _frame_as_gemma(vocabulary: BaseVocabulary, first: int) -> None:
    """An input has Gemma's `<bos>` before it and no end after it, as in transformers; so starts the decoder."""
    vocabulary.before, vocabulary.after, vocabulary.starts = (first,), (), (first, EOS_ID)


class SentencePieceVocabulary(BaseVocabulary):
    """A SentencePiece model, with sentinels after its pieces unless it holds them itself.

    The ids are those of `seqio.SentencePieceVocabulary(path, extra_ids)`: sentinel 0 comes last. Gemma's model,
    whose end is `<eos>`, has no sentinels; see `_frame_as_gemma`. `model` is serialised; `extra_ids` is the
    number of sentinels, by default 100, or none where the model has its own or is no T5's.

    Raises:
      UserError: when `model` is none, or does not have 0 for padding and 1 for the end.
    """

    def __init__(self, model: bytes, extra_ids: int | None = None, name: str = "vocabulary"):
        processor = _processor(model, name)
        found = processor.pad_id(), processor.eos_id()
        if found != (PAD_ID, EOS_ID):
            raise UserError(
                f"{name}: expected the ids 0 and 1 for padding and end, as T5 and Gemma have, got {found[0]} "
                f"and {found[1]} (-1: none)"
            )
        if extra_ids is not None and not 0 <= extra_ids <= MOST_EXTRA_IDS:
            raise UserError(f"{name}: {extra_ids} sentinels: expected up to {MOST_EXTRA_IDS}")
        self.unk_id, is_gemma = processor.unk_id(), processor.id_to_piece(EOS_ID) == GEMMA_END
        if is_gemma:
            _frame_as_gemma(self, processor.bos_id())
        if extra_ids is None:
            last = processor.id_to_piece(processor.get_piece_size() - 1)
            extra_ids = 0 if "extra_id" in last or is_gemma else EXTRA_IDS
        self.model, self.extra_ids = model, extra_ids
        self._processor = _processor(_with_sentinels(model, extra_ids), name)
        self.vocab_size = self._processor.get_piece_size()
        self.fingerprint = f"sentencepiece-{digest(model + str(extra_ids).encode())}"

    @property
    def sentinels(self):
        pieces = map(self._processor.id_to_piece, last_first := range(self.vocab_size - 1, -1, -1))
        count = sum(1 for _ in itertools.takewhile(lambda piece: "extra_id" in piece, pieces))
        return tuple(last_first[:count])

    def _encode_parts(self, parts):
        return self._processor.encode(parts, num_threads=os.cpu_count() or 1)

    def _decode_ids(self, ids):
        return self._processor.decode([i for i in ids if PAD_ID < i < self.vocab_size])

    def _files(self):
        return description(kind="sentencepiece", extra_ids=self.extra_ids) | {"vocabulary.model": self.model}


def _processor(model: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        processor.id_to_piece(list(range(processor.get_piece_size())))  # in UTF-8, each of them
    except (RuntimeError, UnicodeDecodeError):
        raise UserError(f"{name}: not a SentencePiece model") from None
    return processor


def _with_sentinels(model: bytes, count: int) -> bytes:
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for number in reversed(range(count)):
        kind = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
        proto.pieces.add(piece=f"\u2581<extra_id_{number}>", score=0.0, type=kind)
    return proto.SerializeToString()


class TokenizerVocabulary(TokenizersVocabulary):
    """A tokenizer with T5's or Gemma's ids for padding and end, for models that tokens were added to.

    Raises:
      UserError: when `content` is no tokenizer, or has other ids.
    """

    def __init__(self, content: str, name: str = "vocabulary"):
        super().__init__(content, name)
        tokenizer = self._tokenizer
        end = GEMMA_END if tokenizer.token_to_id(END) != EOS_ID else END
        special = [tokenizer.token_to_id(token) for token in ("<pad>", end, "<unk>")]
        if special[:2] != [PAD_ID, EOS_ID] or None in special:
            raise UserError(
                f"{name}: expected the ids 0 and 1 for <pad> and </s> (T5) or <eos> (Gemma), and an <unk>, got "
                f"{special}"
            )
        self.unk_id = special[2]
        if end == GEMMA_END:
            _frame_as_gemma(self, tokenizer.token_to_id("<bos>"))
        self.extra_ids = sum(token.startswith("<extra_id_") for token in tokenizer.get_vocab())
        canonical = json.dumps(json.loads(content), sort_keys=True)
        self.fingerprint = f"tokenizer-{digest(canonical)}"

    @property
    def sentinels(self):
        ids = (self._tokenizer.token_to_id(f"<extra_id_{number}>") for number in range(self.extra_ids))
        return tuple(itertools.takewhile(lambda i: i is not None, ids))

    def _files(self):
        return description(kind="tokenizer") | {"tokenizer.json": self.content.encode()}


Vocabulary = ByteVocabulary | SentencePieceVocabulary | TokenizerVocabulary | CausalVocabulary


def _download(url: str) -> pathlib.Path:
    """The folder of the model at a URL, fetched once per version of the file.

    Without a network its version cannot be asked: the copy that was fetched last is taken, with a warning.
    """
    import fsspec

    what, name = f"vocabulary {url}", f"vocabulary-{digest(url)}"
    downloads = cache.cache_dir() / "downloads"
    try:
        with cache.fetching(what):
            filesystem, path = fsspec.url_to_fs(url)
            filesystem.invalidate_cache()
            version = cache.version_of(filesystem, path, filesystem.info(path))
    except UserError as error:
        copies = sorted(downloads.glob(f"{name}-{'?' * 16}"), key=os.path.getmtime)
        if not copies:
            raise
        log.warning("warning: %s: the copy fetched last is used", error)
        return copies[-1]

    def fetch(temporary: pathlib.Path) -> None:
        with cache.fetching(what):
            model = filesystem.cat_file(path)
        SentencePieceVocabulary(model, name=what).save(temporary)

    return cache.made(downloads / f"{name}-{digest(json.dumps(version))}", fetch)


def _read_model(path: pathlib.Path, extra_ids: int | None = None) -> SentencePieceVocabulary:
    try:
        files.refuse_lfs_pointer(path)
        model = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"vocabulary {path}: no such file: expected bytes, train:SIZE, a SentencePiece model "
            "or a URL of one"
        ) from None
    except OSError as error:
        raise UserError(f"vocabulary {path}: {error.strerror or error}") from None
    return SentencePieceVocabulary(model, extra_ids, f"vocabulary {path}")


def read_tokenizer_json(folder: pathlib.Path) -> TokenizerVocabulary | CausalVocabulary:
    """The vocabulary of a Hugging Face folder that has `tokenizer.json` alone.

    It is T5's where it has T5's ids, else that of a decoder-only model; `tokenizer_config.json` names its end.

    Raises:
      UserError: when there is no such end.
    """
    path, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    for file in filter(pathlib.Path.exists, (path, config)):
        files.refuse_lfs_pointer(file)
    content, what = files.read_text(path), "the files of a tokenizer"
    try:
        end = files.read_json(config, what).get("eos_token") if config.exists() else None
        end = end["content"] if isinstance(end, dict) else end
        added = {token["content"]: token["id"] for token in files.read_json(path, what)["added_tokens"]}
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not {what}: {error!r}") from None
    if end in (None, END, GEMMA_END) and added.get("<pad>") == PAD_ID and added.get(end or END) == EOS_ID:
        return TokenizerVocabulary(content, str(path))
    if not isinstance(end, str):
        raise UserError(f"{config}: no eos_token: expected the token that ends a text, such as '<|im_end|>'")
    return CausalVocabulary(content, end, str(path))


def load_vocabulary(spec: str | os.PathLike) -> Vocabulary:
    """Loads a vocabulary.

    `spec` is `bytes`, a SentencePiece file or its URL (`gs://` and others with the matching fsspec package), a
    folder that `save` wrote, or a Hugging Face folder with `tokenizer.json` alone. (`train:SIZE` is for
    `prepare` to resolve.)

    Raises:
      UserError: when it cannot be read.
    """
    spec = str(spec)
    if spec == "bytes":
        return ByteVocabulary()
    if spec.startswith("train:"):
        raise UserError(f"vocabulary {spec!r} is made by prepare or train: run one of these first")
    path = _download(spec) if "://" in spec else pathlib.Path(spec)
    if not path.is_dir():
        return _read_model(path)
    tokenizer = path / "tokenizer.json"
    if not (path / "vocabulary.json").exists() and tokenizer.exists() and not (path / "spiece.model").exists():
        return read_tokenizer_json(path)
    try:
        stored = json.loads((path / "vocabulary.json").read_text())
        if stored["kind"] == "bytes":
            return ByteVocabulary()
        if stored["kind"] == "tokenizer":
            return TokenizerVocabulary(tokenizer.read_text(encoding="utf-8"), str(tokenizer))
        if stored["kind"] == "causal":
            return CausalVocabulary(tokenizer.read_text(encoding="utf-8"), stored["end"], str(tokenizer))
        extra_ids = int(stored["extra_ids"])
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise UserError(f"{path}: no usable vocabulary.json in there: {error}") from None
    return _read_model(path / "vocabulary.model", extra_ids)


def train_vocabulary(texts: Iterable[str], size: int, extra_ids: int = EXTRA_IDS) -> SentencePieceVocabulary:
    """Trains a SentencePiece BPE model of at most `size` pieces; the same texts give the same.

    Bytes stand in for what no piece covers, so no text is unknown.

    Raises:
      UserError: when the texts need more pieces than `size`, or there are none.
    """
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
            model_type="bpe",  # whole words where a small text repeats them
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
        what = " ".join(str(error).split())
        if "sentences_.empty()" in what:
            what = "there is no text to train it on: the training rows are empty"
        raise UserError(f"vocabulary train:{size}: {what}") from None
    return SentencePieceVocabulary(model.getvalue(), extra_ids)
