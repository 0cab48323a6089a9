import asyncio
import os
import resource
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from teacher_helpers import lines

from distill_jax.errors import UserError
from distill_jax.teachers.limits import Spent
from distill_jax.teachers.messages import Sampling
from distill_jax.teachers.store import Key, Store


def line(number: int, sample: int = 0, text: str = "so", **fields) -> dict:
    key = {"id": f"r{number}", "sample": sample, "prompt": "p", "model": "m", "sampling": {"temperature": 0.0}}
    return (
        key
        | {"text": text, "requests": 1, "usd": 0.5, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        | fields
    )


def key(number: int) -> Key:
    return Key(f"r{number}", "p", "m", Sampling(max_tokens=None))


def fill(path, count: int) -> None:
    with Store(path) as store:
        store.append_now([line(n) for n in range(count)])


def error_of(function) -> str:
    with pytest.raises(UserError) as raised:
        function()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_was_appended_is_there(tmp_path):
    path = tmp_path / "deep" / "store.jsonl"
    with Store(path) as store:
        store.append_now([line(1, 0), line(1, 2), line(2)])
        assert store.missing(key(1), 4) == [1, 3]
        assert store.missing(key(3), 1) == [0]
        assert [row["sample"] for row in store.read("r1")] == [0, 2]
        assert store.read("r1", key(1).setting) == store.read("r1")
        assert store.read("r1", b"another") == []
        assert store.spent == Spent(3, 15, 1.5)
    with Store(path) as store:
        assert store.missing(key(1), 4) == [1, 3]
        assert (store.rows, store.spent) == (3, Spent(3, 15, 1.5))


def test_keys_differ_in_each_of_their_parts():
    keys = [
        Key("a", "p", "m", Sampling()),
        Key("a", "q", "m", Sampling()),
        Key("a", "p", "n", Sampling()),
        Key("a", "p", "m", Sampling(seed=0)),
        Key("a", "p", "m", Sampling(temperature=None)),
        Key("a", "p", "m", Sampling(stop=("\n",))),
        Key("a", "p", "m", Sampling(logprobs=5)),
        Key("a", "p", "m", Sampling(extra_body={"top_k": 3})),
        Key("a", "p", "m", Sampling(extra_body={"top_k": 4})),
    ]
    assert len({k.setting for k in keys}) == 9 and len({k.row for k in keys}) == 1
    assert Sampling().stored() == {"temperature": 0.0, "max_tokens": 256}


@pytest.mark.parametrize("index", ["there", "gone", "garbage"])
@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_last_line_that_a_kill_left_unfinished(tmp_path, index, cut, caplog):
    path = tmp_path / "store.jsonl"
    fill(path, 5)
    whole = path.read_bytes()
    if index == "gone":
        (tmp_path / "store.jsonl.index").unlink()
    elif index == "garbage":
        (tmp_path / "store.jsonl.index").write_bytes(b"not a database" * 1000)
    path.write_bytes(whole + whole.splitlines(keepends=True)[0].replace(b'"r0"', b'"r5"')[:cut])
    with Store(path) as store:
        assert store.rows == 5 and store.missing(key(5), 1) == [0]
        store.append_now([line(5)])
    assert "dropped an unfinished last line of" in caplog.text
    assert [row["id"] for row in lines(path)] == [f"r{n}" for n in range(6)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2000))
def test_a_store_cut_anywhere_keeps_its_whole_lines(tmp_path_factory, at):
    path = tmp_path_factory.mktemp("cut") / "store.jsonl"
    fill(path, 9)
    raw = path.read_bytes()[:at]
    path.write_bytes(raw)
    with Store(path) as store:
        assert store.rows == raw.count(b"\n")
        assert [store.missing(key(n), 1) for n in range(9)] == [[0] * (n >= raw.count(b"\n")) for n in range(9)]
    assert path.read_bytes() == raw[: raw.rfind(b"\n") + 1]


def test_an_index_of_another_file_is_made_again(tmp_path):
    fill(tmp_path / "a.jsonl", 5)
    with Store(tmp_path / "b.jsonl") as store:
        store.append_now([line(n, text="longer than that") for n in range(10, 17)])
    os.replace(tmp_path / "b.jsonl", tmp_path / "a.jsonl")
    with Store(tmp_path / "a.jsonl") as store:
        assert store.rows == 7 and store.missing(key(10), 1) == [] and store.missing(key(0), 1) == [0]


def test_lines_that_the_index_has_not_seen(tmp_path):
    """As after a kill between the line's sync and the index's commit."""
    path = tmp_path / "store.jsonl"
    fill(path, 3)
    more = tmp_path / "more.jsonl"
    fill(more, 6)
    path.write_bytes(more.read_bytes())
    with Store(path) as store:
        assert store.rows == 6 and store.missing(key(5), 1) == [] and store.spent.requests == 6


def test_a_spoilt_line_is_named_and_nothing_is_lost(tmp_path):
    path = tmp_path / "store.jsonl"
    fill(path, 4)
    spoilt = path.read_bytes().replace(b'"id": "r2"', b'"di": "r2"')
    path.write_bytes(spoilt)
    (tmp_path / "store.jsonl.index").unlink()
    assert f"{path}, line 3: not a completion" in error_of(lambda: Store(path))
    assert path.read_bytes() == spoilt


def test_two_processes_cannot_have_it(tmp_path):
    path = tmp_path / "store.jsonl"
    code = f"from distill_jax.teachers.store import Store\nStore({str(path)!r})"
    with Store(path):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another process is using this store" in second.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_full_disk(tmp_path):
    """The whole lines that were written stay, half a one goes, and the next run goes on."""
    path = tmp_path / "store.jsonl"
    fill(path, 3)
    size = path.stat().st_size
    with Store(path) as store:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, limits[1]))
        try:
            assert "no space left" in error_of(lambda: store.append_now([line(n) for n in range(3, 9)]))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [row["id"] for row in lines(path)] == ["r0", "r1", "r2", "r3"]
    with Store(path) as store:
        assert store.rows == 4 and store.missing(key(3), 1) == []


def test_a_full_disk_under_the_index(tmp_path):
    path = tmp_path / "store.jsonl"
    with pytest.raises(UserError, match="the completions themselves are safe"), Store(path) as store:
        pages = store._index.execute("PRAGMA page_count").fetchone()[0]
        store._index.execute(f"PRAGMA max_page_count = {pages + 2}")

        async def run():
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                for n in range(3000):
                    group.create_task(store.append([line(n)]))

        try:
            asyncio.run(run())
        except* UserError as errors:
            raise errors.exceptions[0] from None
    with Store(path) as store:
        assert store.rows == 3000 and store.missing(key(2999), 1) == []


def test_appends_at_the_same_time_share_a_sync(tmp_path, monkeypatch):
    syncs = []
    sync = os.fsync
    with Store(tmp_path / "store.jsonl") as store:
        monkeypatch.setattr(os, "fsync", lambda file: (syncs.append(file), sync(file)))

        async def run():
            await asyncio.gather(*(store.append([line(n)]) for n in range(200)))

        asyncio.run(run())
        assert store.rows == 200 and len(syncs) <= 3


def test_an_append_counts_only_when_it_is_on_the_disk(tmp_path, monkeypatch):
    with Store(tmp_path / "store.jsonl") as store:

        async def run():
            appending = asyncio.create_task(store.append([line(1)]))
            await asyncio.sleep(0)
            assert store.missing(key(1), 1) == [0] and not appending.done()
            await appending
            assert store.missing(key(1), 1) == []
            assert len(lines(store.path)) == 1

        asyncio.run(run())


@pytest.mark.parametrize("text", ["é\u2028\n", "half a pair \ud800", "\x00"])
def test_any_text_comes_back(tmp_path, text):
    path = tmp_path / "store.jsonl"
    with Store(path) as store:
        store.append_now([line(1, text=text), line(2)])
    (tmp_path / "store.jsonl.index").unlink()
    with Store(path) as store:
        assert store.read("r1")[0]["text"] == text and store.rows == 2


def test_a_store_that_is_not_there(tmp_path):
    assert "no such file" in error_of(lambda: Store(tmp_path / "none.jsonl", readonly=True))
    assert "cannot be written" in error_of(lambda: Store(tmp_path))


def test_the_index_is_committed_as_it_grows(tmp_path):
    path = tmp_path / "store.jsonl"
    with Store(path) as store:
        store.append_now([line(n) for n in range(2500)])
        with sqlite3.connect(f"file:{path}.index?mode=ro", uri=True) as index:
            assert index.execute("SELECT value FROM state WHERE name = 'rows'").fetchone() == (2000,)
