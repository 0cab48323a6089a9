import contextlib
import itertools
import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_jax.data.loader import Loader, balanced_order
from distill_jax.data.prepare import prepare
from distill_jax.errors import UserError
from distill_jax.tasks.registry import resolve

LENGTHS = {"inputs": 64, "targets": 64}


@pytest.fixture
def path(toy):
    """29 rows, one example each."""
    return prepare(
        *resolve("toy_standard"),
        "train",
        vocabulary="bytes",
        task_feature_lengths=LENGTHS,
        pack=False,
        num_examples=29,
    ).path


def texts(batches):
    """A name for each row of some batches; "" for an empty one."""
    return [
        bytes((row[row > 2] - 3).astype(np.uint8)).decode()
        for batch in batches
        for row in batch["encoder_input_tokens"]
    ]


def take(loader, count):
    return list(itertools.islice(loader, count))


def same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_shapes(path):
    loader = Loader(path, 4, seed=0)
    batch = next(loader)
    assert {values.shape for values in batch.values()} == {(4, 64)}
    empty = {name: (row.shape, row.dtype) for name, row in loader.empty_row.items()}
    assert empty == {name: (values.shape[1:], values.dtype) for name, values in batch.items()}
    assert batch["decoder_loss_weights"].dtype == np.float32
    assert batch["encoder_input_tokens"].dtype == np.int32


def test_each_epoch_has_every_row_in_a_new_order(path):
    rows = texts(take(Loader(path, 1, seed=0), 3 * 29))
    epochs = [rows[29 * n : 29 * (n + 1)] for n in range(3)]
    assert all(len(set(epoch)) == 29 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_order_depends_on_the_seed(path):
    def order(seed):
        return texts(take(Loader(path, 4, seed=seed), 7))

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_unshuffled(path):
    rows = texts(take(Loader(path, 1, seed=0, shuffle=False), 58))
    assert rows[:29] == rows[29:]
    assert rows[:29] == texts(take(Loader(path, 1, seed=5, shuffle=False), 29))


@pytest.mark.parametrize("consumed", [0, 1, 5, 7, 20])
def test_resumes_exactly(path, consumed):
    """Mid-epoch, at its end and in later ones, whatever was read ahead."""
    loader = Loader(path, 4, seed=3)
    take(loader, consumed)
    state = json.dumps(loader.get_state())
    expected = take(loader, 25)
    again = Loader(path, 4, seed=3)
    take(again, 2)
    again.set_state(json.loads(state))
    same(take(again, 25), expected)


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_share_the_global_batch(path, hosts):
    loaders = [Loader(path, 4, seed=0, process_index=index, process_count=hosts) for index in range(hosts)]
    whole = Loader(path, 4, seed=0)
    for _ in range(15):
        parts = [next(loader) for loader in loaders]
        assert {len(part["encoder_positions"]) for part in parts} == {4 // hosts}
        assert sorted(texts(parts)) == sorted(texts([next(whole)]))


@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize("pad_last", [True, False])
def test_hosts_end_together(path, hosts, pad_last):
    """29 rows in batches of 8: all of them once with padding, 24 without."""
    batches = [
        list(
            Loader(
                path,
                8,
                seed=0,
                num_epochs=1,
                pad_last=pad_last,
                process_index=index,
                process_count=hosts,
            )
        )
        for index in range(hosts)
    ]
    assert {len(own) for own in batches} == {4 if pad_last else 3}
    rows = [row for own in batches for row in texts(own) if row]
    assert len(rows) == len(set(rows)) == (29 if pad_last else 24)


def test_empty_rows_weigh_nothing(path):
    last = list(Loader(path, 8, seed=0, num_epochs=1, pad_last=True))[-1]
    assert (last["decoder_loss_weights"].sum(axis=1) > 0).tolist() == [True] * 5 + [False] * 3
    for values in last.values():
        assert not values[5:].any()


def test_fewer_rows_than_a_batch(path):
    rows = texts(take(Loader(path, 64, seed=0), 2))
    assert sorted(rows[:29]) == sorted(rows[29:58]) == sorted(set(rows))
    (batch,) = Loader(path, 64, seed=0, num_epochs=1, pad_last=True)
    assert (batch["encoder_segment_ids"].any(axis=1)).sum() == 29


def test_packed_rows(toy):
    path = prepare(
        *resolve("toy_step_by_step"),
        "test",
        vocabulary="bytes",
        task_feature_lengths={"inputs": 256, "targets": 128},
    ).path
    batches = list(Loader(path, 4, seed=0, num_epochs=1, pad_last=True))
    segments = [int(row.max()) for batch in batches for row in batch["decoder_segment_ids"]]
    assert sum(segments) == 40
    for batch in batches:
        tokens = batch["decoder_target_tokens"]
        np.testing.assert_array_equal(tokens > 0, batch["decoder_task_ids"] > 0)
        np.testing.assert_array_equal(tokens > 0, batch["decoder_loss_weights"] > 0)


@pytest.mark.parametrize(("batch_size", "hosts"), [(6, 4), (0, 1), (1, 2)])
def test_batch_size_divides_by_hosts(path, batch_size, hosts):
    with pytest.raises(UserError, match=rf"--batch-size \(BATCH_SIZE\) {batch_size}"):
        Loader(path, batch_size, seed=0, process_count=hosts)


def test_nothing_prepared(tmp_path):
    with pytest.raises(UserError, match="no prepared records"):
        Loader(tmp_path, 4, seed=0)


@pytest.mark.parametrize("consumed", [3, 7, 29])
def test_another_number_of_hosts_goes_on_at_the_same_place(path, consumed):
    """In an epoch and at its end (29 batches are 4 epochs of 29 rows): same batches, same order of rows."""
    whole = Loader(path, 4, seed=0)
    take(whole, consumed)
    expected = take(whole, 40)
    two = [Loader(path, 4, seed=0, process_index=index, process_count=2) for index in range(2)]
    states = [json.dumps((take(loader, consumed), loader.get_state())[1]) for loader in two]
    assert states[0] == states[1]
    four = [Loader(path, 4, seed=0, process_index=index, process_count=4) for index in range(4)]
    for loader in four:
        loader.set_state(json.loads(states[0]))
    parts = [take(loader, 40) for loader in four]
    joined = [
        {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
        for batch in zip(*parts, strict=True)
    ]
    same(joined, expected)


def test_the_examples_of_a_batch(path, toy):
    loader = Loader(path, 4, seed=0)
    batches = take(loader, 10)
    inputs = [example.input for example in toy.source.examples("train")]
    for number, batch in enumerate(batches):
        assert sorted(inputs[n] for n in loader.examples(number)) == sorted(set(texts([batch])))


@settings(max_examples=100, deadline=None)
@given(
    label_tokens=st.lists(st.integers(0, 60), min_size=1, max_size=50),
    batch_size=st.integers(1, 60),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 9),
)
def test_a_balanced_order_is_a_permutation_of_one_row_of_each_stratum_a_batch(
    label_tokens, batch_size, seed, epoch
):
    order = balanced_order(np.array(label_tokens), batch_size, seed, epoch)
    rows = len(label_tokens)
    assert sorted(order) == list(range(rows))
    assert order.tolist() == balanced_order(np.array(label_tokens), batch_size, seed, epoch).tolist()
    batches = [
        np.sort(np.array(label_tokens)[order[start : start + batch_size]])
        for start in range(0, rows - batch_size + 1, batch_size)
    ]
    for one, other in itertools.pairwise(batches):  # the n-th smallest of each batch is of the n-th stratum
        assert (one[:-1] <= other[1:]).all() and (other[:-1] <= one[1:]).all()


def test_labels_weigh_the_same_in_dense_rows_and_in_others():
    """Half of the rows have 1 label token, half have 19, in batches of 4: each batch has 2 of either by strata.

    So each token weighs 1/40. With rows drawn at random the mean weight differs by a third.
    """
    label_tokens = np.array([1, 19] * 20)
    orders = [balanced_order(label_tokens, 4, 0, epoch) for epoch in range(300)]
    assert {label_tokens[order].reshape(-1, 4).sum(axis=1).tolist().count(40) for order in orders} == {10}
    assert len({order.tobytes() for order in orders}) == 300
    mates = {tuple(sorted(batch)) for order in orders for batch in order.reshape(-1, 4).tolist()}
    assert len(mates) > 2500  # of 3000: batches hardly ever come again
    random = np.random.default_rng(0)
    weights = np.zeros(40)
    for _ in range(300):
        for batch in random.permutation(40).reshape(-1, 4):
            weights[batch] += 1.0 / label_tokens[batch].sum() / 300
    assert weights[::2].mean() > 1.3 * weights[1::2].mean()


def test_a_closed_loader_leaves_no_thread_and_gives_no_batch(path):
    before = set(threading.enumerate())
    with contextlib.closing(Loader(path, 4, seed=0)) as loader:
        next(loader)
        started = set(threading.enumerate()) - before
        assert started
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)
    with pytest.raises(ValueError, match="closed"):
        next(loader)
