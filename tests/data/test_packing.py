import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_jax.data.packing import pack
from distill_jax.errors import UserError


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 24), st.integers(1, 12)), max_size=60),
)
def test_every_item_once_and_no_row_over(lengths):
    lengths = np.array(lengths, np.int64).reshape(-1, 2)
    rows = pack(lengths, (24, 12))
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    for row in rows:
        assert (lengths[row].sum(axis=0) <= (24, 12)).all()


def test_hand_worked():
    lengths = np.array([[6, 1], [5, 1], [4, 1], [5, 1]])
    rows = pack(lengths, (10, 4))
    assert sorted(sorted(row) for row in rows) == [[0, 2], [1, 3]]


def test_mixes_what_is_long_in_the_one_and_in_the_other_length():
    """Nine of the two kinds fill an encoder, if no row has more than five of the second."""
    lengths = np.array([[50, 3], [54, 45]] * 400)
    rows = pack(lengths, (512, 256))
    assert len(rows) <= 800 // 9 + 1


def test_fill_of_lengths_like_cqa():
    rng = np.random.default_rng(0)
    inputs = np.clip(rng.normal(56, 10, 3000), 20, 150).astype(int)
    labels = np.stack([inputs, rng.integers(2, 7, 3000)], axis=1)
    rationales = np.stack([inputs, np.clip(rng.normal(37, 9, 3000), 5, 90).astype(int)], axis=1)
    lengths = np.concatenate([labels, rationales])
    rows = pack(lengths, (512, 256))
    assert lengths[:, 0].sum() / (len(rows) * 512) >= 0.97


@pytest.mark.parametrize("capacity", [(512, 256), (512, 320), (1024, 256), (512, 128)])
def test_balances_what_is_scarce(capacity):
    """The scarcer length is filled, though rationales and labels ask for different mixes."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(25, 60, 1500)
    labels = np.stack([inputs, rng.integers(5, 12, 1500)], axis=1)
    rationales = np.stack([inputs, rng.integers(15, 60, 1500)], axis=1)
    lengths = np.concatenate([labels, rationales])
    fill = lengths.sum(axis=0) / (len(pack(lengths, capacity)) * np.array(capacity))
    assert fill.max() >= 0.97


def test_rows_are_random_draws_though_lengths_tell_the_classes_apart():
    """A row's number of each class varies as that of independent draws (Pearson's statistic near its mean)."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 4000)
    inputs = np.clip(rng.normal(30, 8, 4000), 12, 80).astype(int) + 2 * classes
    lengths = np.stack([inputs, 2 + classes], axis=1)
    rows = pack(lengths, (256, 64))
    counts = np.array([np.bincount(classes[row], minlength=3) for row in rows])
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum() / (2 * len(rows))
    assert 0.7 <= statistic <= 1.2  # 1.0; by best fit alone it was above 2
    spread = np.mean([inputs[row].std(ddof=1) for row in rows if len(row) > 2])
    assert spread >= 0.9 * inputs.std(ddof=1)


def test_deterministic():
    lengths = np.random.default_rng(0).integers(1, 40, (500, 2))
    assert pack(lengths, (64, 64)) == pack(lengths.copy(), (64, 64))


def test_too_long():
    with pytest.raises(UserError, match="does not fit"):
        pack(np.array([[11, 1]]), (10, 4))
