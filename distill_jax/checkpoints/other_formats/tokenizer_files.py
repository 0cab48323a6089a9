"""Hugging Face's tokenizer files for our vocabularies, and back; without transformers.

A SentencePiece vocabulary is written twice: `spiece.model`, the model itself, and `tokenizer.json`, the same
for the `tokenizers` library, since transformers 5 reads any `spiece.model` of T5 as a unigram model without
byte fallback. Bytes are ByT5's tokenizer. A model that tokens were added to becomes a `TokenizerVocabulary`.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, normalizers, pre_tokenizers, processors

from distill_jax import files
from distill_jax.data.vocabularies import (
    PAD_ID,
    UNK_ID,
    ByteVocabulary,
    CausalVocabulary,
    SentencePieceVocabulary,
    TokenizerVocabulary,
    Vocabulary,
    read_tokenizer_json,
)
from distill_jax.errors import UserError

SPACE = "\u2581"
BYT5_EXTRA_IDS = 125
_SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_GEMMA_SPECIAL = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def write_tokenizer(
    folder: str | os.PathLike, vocabulary: Vocabulary, vocab_size: int, longest: int | None = None
) -> None:
    """Writes what `transformers.AutoTokenizer.from_pretrained` reads; its ids are the vocabulary's.

    `vocab_size` is the number of rows of the model's embedding, `longest` the tokens that an input is cut to
    where the tokenizer is asked to cut it; None for no bound.
    """
    folder = pathlib.Path(folder)
    limit = {} if longest is None else {"model_max_length": longest}
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **limit}
    if isinstance(vocabulary, CausalVocabulary):
        (folder / "tokenizer.json").write_text(vocabulary.content, encoding="utf-8")
        config |= {"eos_token": vocabulary.end, "pad_token": vocabulary.end}
        _write(folder / "tokenizer_config.json", config | {"clean_up_tokenization_spaces": False})
        return
    extra_ids = vocabulary.extra_ids
    if isinstance(vocabulary, ByteVocabulary):
        config = {"tokenizer_class": "ByT5Tokenizer", **limit}
        extra_ids = min(vocab_size - vocabulary.vocab_size, BYT5_EXTRA_IDS)  # the embedding has 384 rows
    elif isinstance(vocabulary, SentencePieceVocabulary):
        is_gemma = bool(vocabulary.before)
        (folder / ("tokenizer.model" if is_gemma else "spiece.model")).write_bytes(vocabulary.model)
        make = _to_gemma_tokenizer if is_gemma else _to_tokenizer
        make(vocabulary).save(str(folder / "tokenizer.json"))
    else:
        (folder / "tokenizer.json").write_text(vocabulary.content, encoding="utf-8")
    if vocabulary.before and vocabulary.pad_id == PAD_ID:
        _write(folder / "special_tokens_map.json", _GEMMA_SPECIAL)
        config["tokenizer_class"] = "GemmaTokenizer"
        _write(folder / "tokenizer_config.json", config | _GEMMA_SPECIAL)
        return
    # Spelt out, since ByT5's tokenizer would take the spaces around a plain `</s>` away.
    end = {"content": "</s>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    sentinels = [f"<extra_id_{n}>" for n in range(extra_ids)]
    special = {**_SPECIAL, "eos_token": end, "additional_special_tokens": sentinels}
    _write(folder / "special_tokens_map.json", special)
    config |= {"extra_ids": extra_ids, **special, "eos_token": {"__type": "AddedToken", **end}}
    _write(folder / "tokenizer_config.json", config | {"clean_up_tokenization_spaces": False})


def _write(path: pathlib.Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _to_tokenizer(vocabulary: SentencePieceVocabulary) -> tokenizers.Tokenizer:
    """A SentencePiece model, BPE or unigram, and its sentinels for the `tokenizers` library."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(vocabulary.model)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    sentinels = [f"<extra_id_{n}>" for n in reversed(range(vocabulary.extra_ids))]
    if trainer.model_type == trainer.BPE:
        pieces = [piece.piece for piece in proto.pieces] + sentinels
        ids = {piece: n for n, piece in enumerate(pieces)}
        model = tokenizers.models.BPE(
            ids, _merges(proto), unk_token="<unk>", fuse_unk=True, byte_fallback=trainer.byte_fallback
        )
    else:
        scored = [(piece.piece, piece.score) for piece in proto.pieces] + [(s, 0.0) for s in sentinels]
        model = tokenizers.models.Unigram(scored, UNK_ID, trainer.byte_fallback)
    tokenizer = tokenizers.Tokenizer(model)
    steps = []
    if normalizer.precompiled_charsmap:
        steps.append(normalizers.Precompiled(normalizer.precompiled_charsmap))
    if normalizer.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    scheme = "always" if normalizer.add_dummy_prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, split=trainer.split_by_whitespace)
    tokenizer.decoder = decoders.Metaspace(SPACE, scheme, split=trainer.split_by_whitespace)
    if trainer.byte_fallback:
        spaces = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        tokenizer.decoder = decoders.Sequence([*spaces, decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    special = [_added(proto.pieces[n].piece) for n in range(PAD_ID, UNK_ID + 1)]
    tokenizer.add_special_tokens(special + [_added(sentinel, lstrip=True) for sentinel in sentinels])
    return tokenizer


def _to_gemma_tokenizer(vocabulary: SentencePieceVocabulary) -> tokenizers.Tokenizer:
    """Gemma's SentencePiece model for the `tokenizers` library: BPE without a space in front."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(vocabulary.model)
    ids = {piece.piece: n for n, piece in enumerate(proto.pieces)}
    model = tokenizers.models.BPE(ids, _merges(proto), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    spaces = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(spaces)
    first = ids["<bos>"]
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", "<bos> $A $B", [("<bos>", first)])
    for piece in proto.pieces:
        if piece.type in (piece.CONTROL, piece.UNKNOWN):
            tokenizer.add_special_tokens([_added(piece.piece)])
        elif piece.type == piece.USER_DEFINED:
            tokenizer.add_tokens([_added(piece.piece, special=False, normalized=True)])
    return tokenizer


def _added(content: str, **flags: bool) -> tokenizers.AddedToken:
    return tokenizers.AddedToken(content, **{"normalized": False, "special": True, **flags})


def _merges(proto) -> list[tuple[str, str]]:
    """Pairs of pieces that join, best first: SentencePiece's BPE keeps only scores of the results."""
    normal = {p.piece: p.score for p in proto.pieces if p.type == p.NORMAL}
    merges = [
        (-score, cut, (piece[:cut], piece[cut:]))
        for piece, score in normal.items()
        for cut in range(1, len(piece))
        if piece[:cut] in normal and piece[cut:] in normal
    ]
    return [pair for _, _, pair in sorted(merges)]


def read_tokenizer(folder: str | os.PathLike) -> Vocabulary | None:
    """The vocabulary of a Hugging Face folder; None where it has none.

    The ids are transformers': of T5 a model's own pieces, its sentinels (100, or as many as `extra_ids` says),
    then the tokens that were added to it. Raises UserError when the files are not those of a tokenizer.
    """
    folder = pathlib.Path(folder)
    names = ("tokenizer_config.json", "spiece.model", "tokenizer.json")
    config_path, spiece, whole = (folder / name for name in names)
    config = _read(config_path)
    if config.get("tokenizer_class") == "ByT5Tokenizer":
        added = _added_tokens(folder, config)
        others = [name for name in added if not name.startswith("<extra_id_") and name not in _SPECIAL.values()]
        if others:
            raise UserError(f"{folder}: a ByT5 tokenizer with the added tokens {', '.join(others)}: not read")
        return ByteVocabulary()
    if not spiece.exists():
        gemma = folder / "tokenizer.model"
        if not whole.exists() and gemma.exists():
            return SentencePieceVocabulary(gemma.read_bytes(), name=str(gemma))
        return read_tokenizer_json(folder) if whole.exists() else None
    files.refuse_lfs_pointer(spiece)
    vocabulary = SentencePieceVocabulary(spiece.read_bytes(), _extra_ids(config_path, config), str(spiece))
    tokenizer = _to_tokenizer(vocabulary)
    added = {
        name: token
        for name, token in _added_tokens(folder, config).items()
        if tokenizer.token_to_id(name) is None and tokenizer.token_to_id(SPACE + name) is None
    }
    if not added:
        return vocabulary
    if whole.exists():
        return TokenizerVocabulary(files.read_text(whole), str(whole))
    numbered_first = sorted(added.items(), key=lambda token: (token[1][0] is None, token[1][0] or 0))
    for name, (stated, flags) in numbered_first:
        tokenizer.add_tokens([_added(name, **flags)])
        number = tokenizer.token_to_id(name)
        if stated not in (None, number):
            raise UserError(
                f"{folder}: the added token {name!r} has the id {stated}, expected {number}, the next after "
                f"the {vocabulary.vocab_size} of spiece.model and its sentinels"
            )
    return TokenizerVocabulary(tokenizer.to_str(), str(spiece))


def _extra_ids(path: pathlib.Path, config: Mapping[str, Any]) -> int | None:
    """The number of sentinels in any form that JSON has for it; None where nothing is said."""
    stated = config.get("extra_ids")
    if stated is None:
        return None
    try:
        number = float(stated)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(stated, bool) or number < 0 or not number.is_integer():
        raise UserError(f"{path}: extra_ids is {stated!r}, expected a number of sentinels, such as 100")
    return int(number)


Added = dict[str, tuple[int | None, dict[str, bool]]]  # text: id, where one is given, and flags of `AddedToken`


def _added_tokens(folder: pathlib.Path, config: Mapping[str, Any]) -> Added:
    """Each token that the files add."""
    tokens: Added = {}
    path = folder / "tokenizer.json"
    entries: Iterable[Any] = _read(path).get("added_tokens", ())
    decoder = config.get("added_tokens_decoder") or {}
    try:
        for name, number in _read(folder / "added_tokens.json").items():
            tokens[name] = int(number), {"special": False}
        path = folder / "tokenizer_config.json"
        for entry in [*entries, *({"id": number, **token} for number, token in decoder.items())]:
            flags = {flag: bool(entry[flag]) for flag in _FLAGS if flag in entry}
            tokens[entry["content"]] = int(entry["id"]), flags
        for key in ("additional_special_tokens", "extra_special_tokens"):
            special = config.get(key) or ()
            for token in special.values() if isinstance(special, Mapping) else special:
                tokens.setdefault(token["content"] if isinstance(token, Mapping) else token, (None, {}))
        if odd := [name for name in tokens if not isinstance(name, str)]:
            raise ValueError(f"expected a text as a token, got {odd[0]!r:.60}")
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{path}: not the config of a tokenizer: {error!r:.200}") from None
    return tokens


def _read(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    if not path.exists():
        return {}
    files.refuse_lfs_pointer(path)
    values = files.read_json(path, "the config of a tokenizer")
    if not isinstance(values, dict):
        raise UserError(f"{path}: not the config of a tokenizer: expected an object")
    return values
