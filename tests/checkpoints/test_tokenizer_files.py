import io
import json

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from distill_jax.checkpoints.formats.tokenizer_files import read_tokenizer, write_tokenizer
from distill_jax.data.vocabularies import ByteVocabulary, SentencePieceVocabulary, train_vocabulary
from distill_jax.errors import UserError

WORDS = "each pack of dvds costs dollars if there is a discount how much do you have to pay to buy".split()
TEXTS = [f"{a} {b} {c} {n}.{m}?" for n, a in enumerate(WORDS) for m, b in enumerate(WORDS) for c in WORDS[:3]]


def unigram():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=90,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def vocabulary(kind):
    if kind == "bytes":
        return ByteVocabulary()
    if kind == "mT5":  # sentinels are the last pieces of the model itself
        proto = sentencepiece_model_pb2.ModelProto.FromString(unigram())
        for n in reversed(range(4)):
            proto.pieces.add(piece=f"\u2581<extra_id_{n}>", type=proto.SentencePiece.USER_DEFINED)
        return SentencePieceVocabulary(proto.SerializeToString())
    if kind == "unigram":
        return SentencePieceVocabulary(unigram())
    return train_vocabulary(TEXTS, 400, 100 if kind == "BPE" else 0)


KINDS = ["bytes", "BPE", "BPE without sentinels", "unigram", "mT5"]


@pytest.fixture(params=KINDS)
def written(request, tmp_path):
    words = vocabulary(request.param)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    write_tokenizer(tmp_path, words, 640)
    return tmp_path, words


def test_the_vocabulary_is_read_back(written):
    folder, words = written
    assert read_tokenizer(folder).fingerprint == words.fingerprint
    assert read_tokenizer(folder).vocab_size == words.vocab_size


def test_a_model_of_transformers_4_has_a_hundred_sentinels(tmp_path):
    (tmp_path / "spiece.model").write_bytes(unigram())
    words = SentencePieceVocabulary(unigram())
    assert read_tokenizer(tmp_path).fingerprint == words.fingerprint
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 3}')
    assert read_tokenizer(tmp_path).vocab_size == words.vocab_size - 97


def test_a_folder_without_a_tokenizer_has_no_vocabulary(tmp_path):
    assert read_tokenizer(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match="not the config of a tokenizer"):
        read_tokenizer(tmp_path)


def test_transformers_gives_our_ids_and_texts(written):
    transformers = pytest.importorskip("transformers", reason="for parity tests only")
    folder, words = written
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        *TEXTS[::20],
        "",
        "  two  spaces   inside ",
        "a line\nAnswer Choices:\n(a) one\ttab",
        "a premise</s>its hypothesis",
        "a premise </s> its hypothesis",
    ]
    if words.fingerprint == "bytes" or "BPE" in str(folder):
        texts += ["Größe 数学 🙂", "“quoted” — dash…"]
    for text in texts:
        ids = words.encode(text)
        assert tokenizer(text).input_ids == [*ids, words.eos_id], text
        if "</s>" not in text and words.unk_id not in ids:  # what is special is left out there
            assert tokenizer.decode(ids, skip_special_tokens=True) == words.decode(ids), text
    assert tokenizer.pad_token_id == 0 and tokenizer.eos_token_id == 1 and tokenizer.unk_token_id == 2
    if words.extra_ids:
        assert tokenizer.convert_tokens_to_ids("<extra_id_0>") == words.vocab_size - 1
