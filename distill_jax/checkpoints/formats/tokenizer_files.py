"""Hugging Face's tokenizer files for our vocabularies, and back; without transformers or tokenizers.

A SentencePiece vocabulary is written twice: `spiece.model`, the model itself, and `tokenizer.json`, the same as
the `tokenizers` library has it, since transformers 5 reads any `spiece.model` of T5 as a unigram model
without byte fallback. Bytes are ByT5's tokenizer.
"""

import base64
import json
import os
import pathlib
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from distill_jax.data.vocabularies import PAD_ID, UNK_ID, ByteVocabulary, SentencePieceVocabulary, Vocabulary
from distill_jax.errors import UserError

SPACE = "\u2581"
_SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def write_tokenizer(folder: str | os.PathLike, vocabulary: Vocabulary, vocab_size: int) -> None:
    """Writes what `transformers.AutoTokenizer.from_pretrained` reads; its ids are the vocabulary's.

    Args:
      folder: of the model.
      vocabulary: of the model.
      vocab_size: rows of the model's embedding.
    """
    folder = pathlib.Path(folder)
    if isinstance(vocabulary, ByteVocabulary):
        extra_ids = min(vocab_size - vocabulary.vocab_size, 125)  # ByT5 has 125, its embedding 384 rows
        sentinels = [f"<extra_id_{n}>" for n in range(extra_ids)]
        config = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": extra_ids}
    else:
        sentinels = [f"<extra_id_{n}>" for n in range(vocabulary.extra_ids)]
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "extra_ids": vocabulary.extra_ids}
        (folder / "spiece.model").write_bytes(vocabulary.model)
        _write(folder / "tokenizer.json", _tokenizer(vocabulary))
    # Spelt out, since ByT5's tokenizer would take the spaces around a plain `</s>` away.
    end = {"content": "</s>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    special = {**_SPECIAL, "eos_token": end, "additional_special_tokens": sentinels}
    _write(folder / "special_tokens_map.json", special)
    config |= {**special, "eos_token": {"__type": "AddedToken", **end}, "clean_up_tokenization_spaces": False}
    _write(folder / "tokenizer_config.json", config)


def _write(path: pathlib.Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _tokenizer(vocabulary: SentencePieceVocabulary) -> dict[str, Any]:
    """`tokenizer.json` of a SentencePiece model, BPE or unigram, and its sentinels."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(vocabulary.model)
    trainer = proto.trainer_spec
    sentinels = [f"<extra_id_{n}>" for n in reversed(range(vocabulary.extra_ids))]
    if trainer.model_type == trainer.BPE:
        pieces = {piece.piece: n for n, piece in enumerate(proto.pieces)}
        model: dict[str, Any] = {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "vocab": pieces | {s: len(pieces) + n for n, s in enumerate(sentinels)},
            "merges": _merges(proto),
        }
    else:
        scored = [[piece.piece, piece.score] for piece in proto.pieces]
        model = {"type": "Unigram", "unk_id": UNK_ID, "vocab": scored + [[s, 0.0] for s in sentinels]}
    model["byte_fallback"] = trainer.byte_fallback
    normalizers: list[dict[str, Any]] = []
    if proto.normalizer_spec.precompiled_charsmap:
        charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
        normalizers.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if proto.normalizer_spec.remove_extra_whitespaces:
        normalizers.append({"type": "Strip", "strip_left": True, "strip_right": True})
        normalizers.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    metaspace = {
        "type": "Metaspace",
        "replacement": SPACE,
        "prepend_scheme": "always" if proto.normalizer_spec.add_dummy_prefix else "never",
        "split": trainer.split_by_whitespace,
    }
    decoders: list[dict[str, Any]] = [metaspace]
    if trainer.byte_fallback:
        decoders = [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]
    added = [(n, proto.pieces[n].piece, False) for n in range(PAD_ID, UNK_ID + 1)]
    added += [(len(proto.pieces) + n, sentinel, True) for n, sentinel in enumerate(sentinels)]
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": n,
                "content": content,
                "single_word": False,
                "lstrip": lstrip,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for n, content, lstrip in added
        ],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, end],
            "pair": [first, end, second, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }


def _merges(proto) -> list[list[str]]:
    """Pairs of pieces that join, best first: SentencePiece's BPE keeps only scores of the results."""
    normal = {p.piece: p.score for p in proto.pieces if p.type == p.NORMAL}
    merges = []
    for piece, score in normal.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in normal and right in normal:
                merges.append((-score, cut, [left, right]))
    return [pair for _, _, pair in sorted(merges)]


def read_tokenizer(folder: str | os.PathLike) -> Vocabulary | None:
    """The vocabulary of a Hugging Face folder; None where there is none that we can read.

    Raises:
      UserError: when the files are there and are not those of a T5 tokenizer.
    """
    folder = pathlib.Path(folder)
    path = folder / "tokenizer_config.json"
    config: dict[str, Any] = {}
    if path.exists():
        try:
            config = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not the config of a tokenizer: {error}") from None
    if config.get("tokenizer_class") == "ByT5Tokenizer":
        return ByteVocabulary()
    spiece = folder / "spiece.model"
    if not spiece.exists():
        return None
    return SentencePieceVocabulary(spiece.read_bytes(), config.get("extra_ids"), str(spiece))
