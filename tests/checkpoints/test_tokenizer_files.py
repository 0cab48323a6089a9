import io
import json

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from distill_jax.checkpoints.other_formats.tokenizer_files import read_tokenizer, write_tokenizer
from distill_jax.data.vocabularies import (
    ByteVocabulary,
    SentencePieceVocabulary,
    TokenizerVocabulary,
    load_vocabulary,
    train_vocabulary,
)
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


def token(content, **flags):
    return {
        "content": content,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": False,
        **flags,
    }


SIZE = SentencePieceVocabulary(unigram()).vocab_size
SENTINELS = [f"<extra_id_{n}>" for n in range(100)]
FORMS = {
    "no extra_ids": {},
    "100": {"extra_ids": 100},
    "10": {"extra_ids": 10},
    "none": {"extra_ids": 0},
    "sentinels by name": {"additional_special_tokens": SENTINELS},
    "20 by name alone": {"extra_ids": 0, "additional_special_tokens": SENTINELS[:20]},
    "a special one": {"additional_special_tokens": [*SENTINELS, "<ORG>"]},
    "added_tokens_decoder": {
        "extra_ids": 100,
        "added_tokens_decoder": {str(SIZE): token("{"), str(SIZE + 1): token("<ORG>", special=True)},
    },
    "sentinels in added_tokens_decoder": {
        "added_tokens_decoder": {str(SIZE - 1 - n): token(s, special=True) for n, s in enumerate(SENTINELS)},
    },
    "added_tokens.json": {"extra_ids": 100},
}
ODD = [
    "each { pack <ORG>",
    "{",
    "pay{buy",
    "{ {",
    "  each   { pay",
    "to buy </s> each",
    "pay <extra_id_9> to",
    "",
]


@pytest.mark.parametrize("saved_again", [False, True])
@pytest.mark.parametrize("form", list(FORMS))
def test_transformers_ids_of_models_from_elsewhere(tmp_path, form, saved_again):
    transformers = pytest.importorskip("transformers", reason="for parity tests only")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    (tmp_path / "spiece.model").write_bytes(unigram())
    config = {"tokenizer_class": "T5Tokenizer", **FORMS[form]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if form == "added_tokens.json":
        (tmp_path / "added_tokens.json").write_text(json.dumps({"<ORG>": SIZE + 1, "{": SIZE}))
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    folder = tmp_path
    if saved_again:  # by transformers 5: tokenizer.json alone
        folder = tmp_path / "saved"
        peer.save_pretrained(folder)
    words = read_tokenizer(folder)
    assert words.vocab_size == len(peer)
    for text in ODD:
        ids = words.encode(text)
        assert [*ids, words.eos_id] == peer(text).input_ids, text
        if isinstance(words, TokenizerVocabulary) and words.eos_id not in ids:  # ours ends there
            assert words.decode([*ids, words.eos_id, 5]) == peer.decode(ids, skip_special_tokens=True)
    words.save(tmp_path / "ours")
    again = load_vocabulary(tmp_path / "ours")
    assert (again.fingerprint, again.vocab_size) == (words.fingerprint, words.vocab_size)
    assert again.encode_batch(ODD) == words.encode_batch(ODD)
    write_tokenizer(tmp_path / "ours", words, 640)
    (tmp_path / "ours" / "config.json").write_text(json.dumps({"model_type": "t5"}))
    written = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert [written(text).input_ids for text in ODD] == [peer(text).input_ids for text in ODD]


@pytest.mark.parametrize(
    ("extra_ids", "expected"), [(100, 100), ("100", 100), (100.0, 100), (None, 100), (0, 0), ("0", 0)]
)
def test_extra_ids_of_any_form(tmp_path, extra_ids, expected):
    (tmp_path / "spiece.model").write_bytes(unigram())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_ids": extra_ids}))
    assert read_tokenizer(tmp_path).extra_ids == expected


@pytest.mark.parametrize("extra_ids", ["many", -1, 1.5, True, [100]])
def test_extra_ids_that_are_no_number_are_named(tmp_path, extra_ids):
    (tmp_path / "spiece.model").write_bytes(unigram())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_ids": extra_ids}))
    with pytest.raises(UserError, match="tokenizer_config.json: extra_ids is .*, expected a number"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("added_tokens.json", {"{": 150000}, "the added token '{' has the id 150000, expected"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": token("{")}}, "not the config of a tokenizer"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"5": {}}}, "not the config of a tokenizer"),
        ("added_tokens.json", [1], "not the config of a tokenizer"),
        ("added_tokens.json", {"\ud800": 384}, "half a surrogate pair"),
        ("tokenizer_config.json", {"extra_special_tokens": "\ud800"}, "half a surrogate pair"),
        (
            "tokenizer_config.json",
            {"tokenizer_class": "ByT5Tokenizer", "added_tokens_decoder": {"384": token("<ORG>")}},
            "a ByT5 tokenizer with the added tokens <ORG>",
        ),
    ],
)
def test_what_cannot_be_right_is_named(tmp_path, name, content, message):
    (tmp_path / "spiece.model").write_bytes(unigram())
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_tokenizer(tmp_path)


def test_another_kind_of_tokenizer_is_refused(tmp_path):
    import tokenizers

    tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0}, "<s>")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="tokenizer_config.json: no eos_token"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not the files of a tokenizer"):
        read_tokenizer(tmp_path)
