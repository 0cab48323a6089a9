"""A key planted in the environment, and a server that repeats it wherever it can."""

import logging
import os
import pathlib
import subprocess
import sys

import pytest
from teacher_helpers import KEY, examples

from distill_jax.errors import UserError
from distill_jax.teachers.openai_client import OpenAIClient
from distill_jax.teachers.secrets import RedactingFilter, api_key, checked_url, redact


def run(args, **environment):
    command = [sys.executable, "-X", "dev", "-m", "distill_jax.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def write_rows(path, count=5):
    path.write_text("".join(f'{{"id": "{r.id}", "input": "{r.input}"}}\n' for r in examples(count)))
    return str(path)


@pytest.mark.parametrize(
    "faults", [[], ["429", "500"], ["400"] * 5, ["quota"] * 5, ["cut", "half"], ["malformed"]]
)
def test_the_key_is_nowhere_but_in_the_request(loopback, tmp_path, faults):
    server = loopback(key=KEY, echo=True, script=faults)
    data, folder = write_rows(tmp_path / "rows.jsonl"), tmp_path / "out"
    folder.mkdir()
    flags = ["annotate", data, "--base-url", server.url, "--model", "m", "--store", str(folder / "s.jsonl")]
    flags += [
        "--output",
        str(folder / "rows.jsonl"),
        "--report",
        str(folder / "report.html"),
        "--first-wait",
        "0.01",
    ]
    done = run(flags, OPENAI_API_KEY=KEY, OPENAI_LOG="debug")
    # The server looks at the key first: a fault that was injected means that it had arrived.
    assert server.count >= 5 if not faults else set(server.injected) == set(faults)
    assert KEY not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert folder / "s.jsonl" in files
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path
    if not faults:
        assert done.returncode == 0 and "[API key]" in (folder / "s.jsonl").read_text()


def test_a_refused_key_is_not_told(loopback, tmp_path):
    server = loopback(key="another-key-altogether", echo=True)
    data = write_rows(tmp_path / "rows.jsonl")
    flags = ["annotate", data, "--base-url", server.url, "--model", "m", "--store", str(tmp_path / "s")]
    done = run([*flags, "--api-key-env", "MY_KEY"], MY_KEY=KEY)
    assert done.returncode == 1
    assert "HTTP 401: Incorrect API key provided Bearer [API key]" in done.stderr
    assert KEY not in done.stdout + done.stderr


def test_a_batch_keeps_it_too(loopback, tmp_path):
    server = loopback(key=KEY, echo=True)
    flags = ["annotate", write_rows(tmp_path / "rows.jsonl"), "--base-url", server.url, "--model", "m"]
    done = run([*flags, "--batch", "--poll", "0.01", "--store", str(tmp_path / "s")], OPENAI_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    assert not any(KEY in path.read_text(errors="replace") for path in pathlib.Path(tmp_path).glob("*"))


@pytest.mark.parametrize("url", ["http://user:secret@host/v1", "https://host/v1?key=secret"])
def test_an_address_with_a_secret_is_refused_without_repeating_it(url):
    with pytest.raises(UserError, match="environment") as raised:
        checked_url(url)
    assert "secret" not in str(raised.value)


def test_so_is_one_in_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:secret@host/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(UserError, match="may not be part of the address"):
        OpenAIClient("m")


@pytest.mark.parametrize("url", ["host/v1", "ftp://host", "http://", "http://[::1"])
def test_no_address(url):
    with pytest.raises(UserError, match="expected an address"):
        checked_url(url)


def test_keys(monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    assert api_key("SOME_KEY", needed=False) is None
    with pytest.raises(UserError, match="SOME_KEY"):
        api_key("SOME_KEY", needed=True)
    monkeypatch.setenv("SOME_KEY", f" {KEY}-b\n")
    assert api_key("SOME_KEY", needed=True) == f"{KEY}-b"
    assert redact(f"a {KEY}-b c") == "a [API key] c"
    monkeypatch.setenv("SOME_KEY", "none")  # no secret, and an ordinary word
    api_key("SOME_KEY", needed=True)
    assert redact("none of them") == "none of them"
    monkeypatch.setenv("SOME_KEY", "two words")
    with pytest.raises(UserError, match="characters") as raised:
        api_key("SOME_KEY", needed=True)
    assert "two words" not in str(raised.value)


def test_log_records_are_redacted(monkeypatch, caplog):
    monkeypatch.setenv("SOME_KEY", KEY)
    api_key("SOME_KEY", needed=True)
    handler = caplog.handler
    handler.addFilter(RedactingFilter())
    try:
        raise ValueError(f"no {KEY}")
    except ValueError:
        logging.getLogger("x").error("sent %s", KEY, exc_info=True)
    handler.filters.clear()
    assert KEY not in caplog.text and "[API key]" in caplog.text
