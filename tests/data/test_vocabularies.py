import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_jax.data import cache
from distill_jax.data.vocabularies import (
    ByteVocabulary,
    SentencePieceVocabulary,
    load_vocabulary,
    train_vocabulary,
)
from distill_jax.errors import UserError

TEXTS = [f"{n} birds sit on {n % 7} fences, and {n + 3} more come: how many?" for n in range(300)]
ODD = [
    "",
    " ",
    "two\nlines",
    "[label] 12 birds",
    "naïve Straße 東京 🦜",
    "a <extra_id_0> b",
    "  x  ",
]


@pytest.fixture(scope="module")
def trained():
    return train_vocabulary(TEXTS, 400)


def test_bytes():
    vocabulary = load_vocabulary("bytes")
    assert vocabulary.encode("aé") == [97 + 3, 0xC3 + 3, 0xA9 + 3]
    assert vocabulary.decode([0, 100, 1, 101]) == "a"
    assert vocabulary.vocab_size == 259
    assert vocabulary.encode_batch(["a", ""]) == [[100], []]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_round_trip(text):
    vocabulary = ByteVocabulary()
    assert vocabulary.decode(vocabulary.encode(text) + [1, 50]) == text


def test_trained_vocabulary_knows_every_text(trained):
    for text in ODD:
        assert trained.unk_id not in trained.encode(text)
    assert trained.decode(trained.encode("naïve 東京 🦜")) == "naïve 東京 🦜"
    assert trained.encode_batch(ODD) == [trained.encode(text) for text in ODD]
    assert trained.vocab_size <= 400 + 100
    assert trained.extra_ids == 100


def test_training_is_deterministic(trained):
    assert train_vocabulary(iter(TEXTS), 400).fingerprint == trained.fingerprint
    assert train_vocabulary(TEXTS[:200], 400).fingerprint != trained.fingerprint


def test_sentinels_come_last_and_in_reverse(trained):
    last = trained.vocab_size - 1
    assert trained.encode("<extra_id_0>") == [last]
    assert trained.encode("<extra_id_2>") == [last - 2]


def test_decode(trained):
    ids = trained.encode("12 birds")
    assert trained.decode([*ids, 1, *ids]) == "12 birds"
    assert trained.decode([*ids, 0, 0, trained.vocab_size, 10_000]) == "12 birds"
    assert trained.decode([]) == ""


@pytest.mark.parametrize("text", ODD)
def test_ids_of_seqio(trained, tmp_path, text):
    seqio = pytest.importorskip("seqio")
    trained.save(tmp_path)
    for ours, theirs in (
        (trained, seqio.SentencePieceVocabulary(str(tmp_path / "vocabulary.model"), 100)),
        (ByteVocabulary(), seqio.ByteVocabulary()),
    ):
        ids = ours.encode(text)
        assert ids == list(theirs.encode(text))
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode([*ids, 1, 0]) == theirs.decode([*ids, 1, 0])
    assert (
        trained.vocab_size == seqio.SentencePieceVocabulary(str(tmp_path / "vocabulary.model"), 100).vocab_size
    )


def test_save_and_load(trained, tmp_path):
    for vocabulary in (trained, ByteVocabulary(), train_vocabulary(TEXTS, 350, extra_ids=7)):
        vocabulary.save(tmp_path)
        again = load_vocabulary(tmp_path)
        assert again.fingerprint == vocabulary.fingerprint
        assert again.vocab_size == vocabulary.vocab_size
        assert again.extra_ids == vocabulary.extra_ids
    assert load_vocabulary(f"file://{tmp_path}/vocabulary.model").extra_ids == 100


def test_model_with_its_own_sentinels(trained):
    from sentencepiece import sentencepiece_model_pb2 as pb2

    proto = pb2.ModelProto.FromString(trained.model)
    proto.pieces.add(piece="▁<extra_id_0>", type=pb2.ModelProto.SentencePiece.USER_DEFINED)
    vocabulary = SentencePieceVocabulary(proto.SerializeToString())
    assert vocabulary.extra_ids == 0
    assert vocabulary.encode("<extra_id_0>") == [vocabulary.vocab_size - 1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "no such file"), (b"not a model", "not a SentencePiece model"), (b"", "")],
)
def test_bad_model_file(tmp_path, content, expected):
    path = tmp_path / "v.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}: .*{expected}"):
        load_vocabulary(path)


@pytest.mark.parametrize("piece", [b"</s>", b"\xe2\x96\x81"])
def test_a_model_whose_pieces_are_no_text(trained, piece):
    with pytest.raises(UserError, match="^mine: not a SentencePiece model"):
        SentencePieceVocabulary(trained.model.replace(piece, b"\x80" * len(piece)), name="mine")


def test_bad_specs(tmp_path):
    (tmp_path / "vocabulary.json").write_text("{")
    with pytest.raises(UserError, match="no usable vocabulary.json"):
        load_vocabulary(tmp_path)
    with pytest.raises(UserError, match="prepare or train"):
        load_vocabulary("train:300")
    with pytest.raises(UserError, match="cannot be fetched"):
        load_vocabulary(f"file://{tmp_path}/no.model")
    with pytest.raises(UserError, match="cannot be fetched"):
        load_vocabulary("nosuch://bucket/v.model")


def test_a_model_that_was_overwritten_at_its_url_is_fetched_anew(trained, monkeypatch, caplog):
    filesystem, url = fsspec.filesystem("memory"), "memory://vocabulary/v.model"
    other = train_vocabulary(["something else altogether"] * 3, 300)
    fetched = []
    for vocabulary in (trained, trained, other):
        if not fetched or vocabulary is other:
            filesystem.pipe("/vocabulary/v.model", vocabulary.model)
        fetched.append(load_vocabulary(url))
        assert fetched[-1].model == vocabulary.model
    assert len(list(cache.cache_dir().joinpath("downloads").iterdir())) == 2

    def unreachable(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(type(filesystem), "info", unreachable)
    assert load_vocabulary(url).model == other.model
    assert f"{url}: cannot be fetched: no network: the copy fetched last is used" in caplog.text
    with pytest.raises(UserError, match="memory://another.model: cannot be fetched: no network"):
        load_vocabulary("memory://another.model")


def test_the_version_is_what_the_file_system_says():
    class Silent:
        def ukey(self, path):
            return f"key of {path}"

    assert cache.version_of(Silent(), "a", {"size": 3, "ETag": "x", "name": "a"}) == ["3", "ETag=x"]
    assert cache.version_of(Silent(), "a", {"size": 3, "name": "a"}) == ["3", "key of a"]


def test_ids_that_are_not_t5s():
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=60, minloglevel=2
    )
    with pytest.raises(UserError, match="expected the ids 0 and 1"):
        SentencePieceVocabulary(model.getvalue())


@pytest.mark.parametrize(("texts", "size"), [(TEXTS, 260), ([], 400)])
def test_cannot_be_trained(texts, size):
    with pytest.raises(UserError, match=f"train:{size}") as raised:
        train_vocabulary(texts, size)
    assert "\n" not in str(raised.value)
