"""Damaged records, and files of a run: told of in one line, made anew where that can be done."""

import shutil

import numpy as np
import pytest

from distill_jax import checksums
from distill_jax.checkpoints import run_dir
from distill_jax.checkpoints.orbax import load_scores
from distill_jax.data import cache as cache_of
from distill_jax.data.loader import Loader
from distill_jax.data.prepare import prepare
from distill_jax.errors import UserError
from distill_jax.tasks import registry

CUT = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "changed": lambda content: content[:20] + bytes([content[20] ^ 4]) + content[21:],
}
ROWS, LABEL_TOKENS, MANIFEST = "rows.array_record", "label_tokens.npy", "manifest.json"


def records(folder, verify=True):
    task, views = registry.resolve("entailment_step_by_step")
    options = {"task_feature_lengths": {"inputs": 96, "targets": 48}, "num_examples": 8, "cache_dir": folder}
    return prepare(task, views, "train", vocabulary="bytes", verify=verify, **options).path


def spoil(path, kind):
    path.write_bytes(CUT[kind](path.read_bytes()))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    records(folder)
    return folder


@pytest.fixture
def cache(made, tmp_path):
    return shutil.copytree(made, tmp_path / "cache")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name, kind",
    [(ROWS, "cut"), (ROWS, "changed"), (LABEL_TOKENS, "changed"), (MANIFEST, "empty"), (checksums.NAME, "cut")],
)
def test_a_damaged_set_is_made_anew(cache, caplog, name, kind):
    before = contents(cache)
    (path,) = cache.rglob(name)
    spoil(path, kind)
    assert records(cache) == path.parent
    assert f"warning: {path.parent} is damaged: {name} (" in caplog.text
    assert contents(cache) == before


def test_whatever_the_cache_holds_is_made_anew_when_it_is_damaged(tmp_path, caplog):
    made = []

    def make(temporary):
        made.append(temporary)
        (temporary / "model").write_text("content")

    for folder in [tmp_path / "vocabulary"] * 2:
        cache_of.made(folder, make)
    (folder / "model").write_text("another")
    assert cache_of.made(folder, make, verify=False) == folder and len(made) == 1
    assert cache_of.made(folder, make) == folder and len(made) == 2
    assert (folder / "model").read_text() == "content"
    assert f"warning: {folder} is damaged: model (changed): it is made anew" in caplog.text


@pytest.mark.parametrize("name", [ROWS, LABEL_TOKENS, MANIFEST])
@pytest.mark.parametrize("kind", ["empty", "cut"])
def test_without_checksums_damage_is_one_line_with_the_file(cache, name, kind):
    (path,) = cache.rglob(name)
    spoil(path, kind)
    (path.parent / checksums.NAME).unlink()
    message = f"{name}: damaged .*: delete the folder {path.parent}: it is prepared anew"
    with pytest.raises(UserError, match=message) as error:
        Loader(records(cache), 2, seed=0)
    assert "\n" not in str(error.value)


def test_rows_that_are_changed_are_one_line(cache):
    (path,) = cache.rglob(ROWS)
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{ROWS}: damaged .*it is prepared anew"):
        next(Loader(records(cache, verify=False), 2, seed=0))


def test_rows_and_label_tokens_are_of_one_another(cache):
    (path,) = cache.rglob(LABEL_TOKENS)
    np.save(path, np.load(path)[1:])
    with pytest.raises(UserError, match=rf"{ROWS}: damaged \(\d+ rows, expected \d+\)"):
        Loader(path.parent, 2, seed=0)


@pytest.mark.parametrize("place", [{}, {"next_index": "x"}, [], None])
def test_a_place_in_the_data_that_is_none_is_one_line(made, place):
    loader = Loader(records(made), 2, seed=0)
    with pytest.raises(UserError, match="the place in the data .* is none") as error:
        loader.set_state(place)
        next(loader)
    assert "\n" not in str(error.value)


READERS = {
    "run.json": run_dir.load,
    "config.json": run_dir.read_config,
    "data.json": run_dir.read_data,
    "scores.json": load_scores,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", [b"", b'{"metric": "acc', b'\xff{"a": 1}', b"[]", b"[" * 10_000])
def test_a_damaged_file_of_a_run_is_one_line_with_the_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{tmp_path / name}: ") as error:
        READERS[name](str(tmp_path))
    assert "\n" not in str(error.value)
