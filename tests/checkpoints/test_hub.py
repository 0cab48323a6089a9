"""Repositories of the hub, from a stand-in of its HTTP API: no network, licences, half a download."""

import hashlib
import shutil
import sys
import time

import pytest
from hub_standin import serve

from distill_jax.checkpoints import hub as hub_module
from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
from distill_jax.checkpoints.other_formats.parameters import from_tree
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.checkpoints.vocabulary import vocabulary_spec
from distill_jax.data.vocabularies import load_vocabulary, train_vocabulary
from distill_jax.errors import UserError

constants = pytest.importorskip("huggingface_hub.constants")
URL = "hf://org/student"


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_module, "SECONDS", 2.0)


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary(["two and two make four", "a dog is an animal"] * 20, 300)


@pytest.fixture
def hub(make_student, vocabulary, tmp_path, monkeypatch):
    config, params = make_student("UL2")
    folder = tmp_path / "repository"
    write_huggingface(folder, from_tree(params), config, shard_bytes=9000)
    (folder / "spiece.model").write_bytes(vocabulary.model)
    (folder / "pytorch_model.bin").write_text("a pickle")
    with serve(folder, tmp_path / "hub", monkeypatch) as handler:
        yield handler, params


def without_weights(handler, tmp_path):
    """Puts the safetensors where the hub's own conversion is."""
    shutil.copytree(handler.folder, tmp_path / "conversion")
    for path in handler.folder.glob("*.safetensors*"):
        path.unlink()
    return tmp_path / "conversion"


def test_a_model_by_name_and_by_revision(hub, assert_same):
    handler, params = hub
    checkpoint = open_checkpoint(URL)
    assert checkpoint.format == "huggingface" and checkpoint.config.mlp_activations == ("silu", "linear")
    assert_same(checkpoint.parameters, params)
    assert "pytorch_model.bin" not in handler.asked
    assert_same(open_checkpoint(f"{URL}@v1").parameters, params)


def test_only_a_pickle_is_refused_and_no_strangers_conversion_is_taken(hub, tmp_path):
    handler, _ = hub
    handler.conversion, handler.author = without_weights(handler, tmp_path), "mallory"
    message = r"org/student/pytorch_model.bin: a pickle .*from_pretrained\('org/student'\)"
    with pytest.raises(UserError, match=message):
        open_checkpoint(URL)
    assert "pytorch_model.bin" not in handler.asked


def test_the_hubs_own_conversion_of_a_pickle_is_taken_and_found_again(
    hub, tmp_path, assert_same, caplog, monkeypatch
):
    handler, params = hub
    handler.conversion = without_weights(handler, tmp_path)
    assert_same(open_checkpoint(URL).parameters, params)
    assert "refs/pr/1" in caplog.text and "pytorch_model.bin" not in handler.asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_same(open_checkpoint(URL).parameters, params)


def test_the_vocabulary_alone_is_fetched(hub, vocabulary):
    handler, _ = hub
    spec = vocabulary_spec(None, URL)
    assert load_vocabulary(spec).fingerprint == vocabulary.fingerprint
    assert set(handler.asked) == {"spiece.model", "config.json"}
    assert vocabulary_spec(URL, None) == spec == vocabulary_spec(None, "scratch", open_checkpoint(URL))


@pytest.mark.parametrize("how", ["offline", "no network", "silent", "gone"])
def test_the_cache_stands_in_for_the_network(hub, how, assert_same, caplog, monkeypatch):
    handler, params = hub
    open_checkpoint(URL)
    asked = len(handler.asked)
    _break(handler, how, monkeypatch)
    assert_same(open_checkpoint(URL).parameters, params)
    assert len(handler.asked) == asked
    assert ("the copy in the cache is used" in caplog.text) == (how != "offline")


def _break(handler, how, monkeypatch):
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif how == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif how == "silent":
        monkeypatch.setattr(hub_module, "SECONDS", 0.3)
        handler.wait = 1.0
    else:
        handler.status = 503


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("offline", "not whole in .*hub, and HF_HUB_OFFLINE forbids to fetch it"),
        ("no network", "cannot be fetched from http://127.0.0.1:9: .*refused"),
        ("silent", "cannot be fetched from http://127.0.0.1:.*: (no answer in 0.3 s|timed out)"),
        ("gone", "cannot be fetched from http://127.0.0.1:.*503"),
    ],
)
def test_without_a_network_there_is_one_line_at_once(hub, how, reason, tmp_path, monkeypatch):
    handler, _ = hub
    _break(handler, how, monkeypatch)
    began = time.monotonic()
    with pytest.raises(hub_module.NotFetched, match=f"^{URL}: {reason}") as error:
        open_checkpoint(URL)
    assert time.monotonic() - began < 5
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "hub").rglob("*"))


@pytest.mark.parametrize(("status", "code"), [(401, ""), (401, "GatedRepo"), (403, "GatedRepo"), (403, "")])
def test_a_gated_model_says_to_accept_its_licence_and_log_in(hub, status, code):
    handler, _ = hub
    handler.status, handler.error_code = status, code
    with pytest.raises(
        hub_module.NotFetched, match="accept the model's licence at http://.*/org/student, and log in"
    ):
        open_checkpoint(URL)


def test_what_the_hub_does_not_have(hub):
    handler, _ = hub
    with pytest.raises(hub_module.NotFetched, match="hf://org/nothing: http://.* has no such repository"):
        open_checkpoint("hf://org/nothing")
    handler.status, handler.error_code = 404, "RevisionNotFound"
    with pytest.raises(hub_module.NotFetched, match="has no revision 'v9' of it"):
        open_checkpoint(f"{URL}@v9")


def test_half_a_download_is_no_checkpoint(hub, assert_same, monkeypatch):
    handler, params = hub
    handler.cut = sorted(path.name for path in handler.folder.glob("*.safetensors"))[-1]
    with pytest.raises(UserError, match=f"^{URL}: cannot be fetched"):
        open_checkpoint(URL)
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match="not whole in"):
            open_checkpoint(URL)
    handler.cut = ""
    assert_same(open_checkpoint(URL).parameters, params)


def test_without_the_hub_client_the_way_to_get_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        open_checkpoint(URL)


def test_damaged_weights_of_the_cache_are_told_of_by_the_hub_s_own_checksum(tmp_path, monkeypatch):
    blob = tmp_path / hashlib.sha256(b"weights").hexdigest()
    blob.write_bytes(b"weights")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr(hub_module, "_fetch", lambda url, weights: snapshot)
    assert hub_module.fetch("hf://org/student") == snapshot
    blob.write_bytes(b"weightz")
    message = f"model.safetensors: damaged, its SHA-256 is another: delete {blob}: it is fetched anew"
    with pytest.raises(UserError, match=message):
        hub_module.fetch("hf://org/student")
    assert hub_module.fetch("hf://org/student", verify=False) == snapshot
