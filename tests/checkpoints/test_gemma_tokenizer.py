"""Gemma's vocabulary: its own special ids, from the model file, and the ids and texts of transformers."""

import functools
import io

import pytest
import sentencepiece

from distill_jax.checkpoints.other_formats.tokenizer_files import read_tokenizer, write_tokenizer
from distill_jax.data.vocabularies import SentencePieceVocabulary, load_vocabulary

HARD = [
    "the quick  brown fox",
    " leading",
    "trailing ",
    "a\nb\n\nc",
    "<start_of_turn>user\nhi<end_of_turn>",
    "日本語 emoji 🙂 x",
    "   three",
    "",
    "tab\tx",
    "über naïve",
]


@functools.cache
def gemma_model():
    """A SentencePiece model trained with Gemma's settings: BPE with bytes, no space in front."""
    model = io.BytesIO()
    texts = [
        "the quick brown fox jumps over the lazy dog",
        "An  answer is ( 84.0 / 2.0 )\n\nPremise",
        "über naïve",
    ]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 30),
        model_writer=model,
        vocab_size=400,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        eos_piece="<eos>",
        bos_piece="<bos>",
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "▁▁"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def test_the_special_ids_come_from_the_model():
    vocabulary = SentencePieceVocabulary(gemma_model())
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id, vocabulary.extra_ids) == (0, 1, 3, 0)
    assert vocabulary.starts == (2, 1)
    assert vocabulary.frame([10, 11, 12], 3) == [2, 10, 11]
    assert vocabulary.encode("fox</s>dog").count(1) == 1


def test_it_survives_being_saved(tmp_path):
    vocabulary = SentencePieceVocabulary(gemma_model())
    vocabulary.save(tmp_path)
    loaded = load_vocabulary(tmp_path)
    assert loaded.fingerprint == vocabulary.fingerprint and loaded.starts == (2, 1)


@pytest.mark.parametrize("only", ["tokenizer.json", "tokenizer.model"])
def test_ids_and_texts_are_those_of_transformers(tmp_path, only):
    transformers = pytest.importorskip("transformers", reason="for parity tests only")
    vocabulary = SentencePieceVocabulary(gemma_model())
    write_tokenizer(tmp_path, vocabulary, 512)
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for name in {"tokenizer.json", "tokenizer.model"} - {only}:
        (tmp_path / name).unlink()
    read = read_tokenizer(tmp_path)
    assert (read.unk_id, read.starts, read.vocab_size) == (3, (2, 1), vocabulary.vocab_size)
    for text in HARD:
        ids = read.frame(read.encode(text), 100)
        assert ids == peer(text)["input_ids"] == vocabulary.frame(vocabulary.encode(text), 100)
        assert read.decode(ids) == peer.decode(ids, skip_special_tokens=True)


def test_what_transformers_saves_alone_is_read(tmp_path):
    transformers = pytest.importorskip("transformers", reason="for parity tests only")
    (tmp_path / "ours").mkdir()
    write_tokenizer(tmp_path / "ours", SentencePieceVocabulary(gemma_model()), 512)
    transformers.AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert load_vocabulary(tmp_path / "theirs").starts == (2, 1)
