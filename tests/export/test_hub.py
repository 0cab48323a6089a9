"""Pushing to a stand-in of the hub's HTTP API on the loopback."""

import base64
import http.server
import json
import re
import sys
import threading

import pytest

from distill_jax.cli import main as cli
from distill_jax.config import ExportConfig
from distill_jax.errors import UserError
from distill_jax.export.run import export

hub_client = pytest.importorskip("huggingface_hub", reason="an extra")
constants = pytest.importorskip(
    "huggingface_hub.constants", reason="an extra"
)  # the client loads it when asked


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a push asks for; `refuse` has the status of a path that contains the key."""

    repositories: dict[str, dict[str, bytes]]
    commits: list[str]
    objects: dict[str, bytes]
    refuse: dict[str, int]

    def log_message(self, *args):
        pass

    def _answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        place = self.path.partition("?")[0]
        status = next((status for key, status in self.refuse.items() if key in place), None)
        if self.headers.get("Authorization") != "Bearer right" and "/lfs-object/" not in place:
            status = 401
        if status is not None:
            return self._answer({"error": f"refused with {status}"}, status)
        name = place.removeprefix("/api/models/")
        if place == "/api/repos/create":
            made = json.loads(body)
            self.repositories[f"{made['organization']}/{made['name']}"] = {}
            self.private.append(made.get("private", made.get("visibility")))
            self._answer({"url": f"{self.url}/{made['organization']}/{made['name']}"})
        elif place == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in place:
            files = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            rows = [{"path": f["path"], "shouldIgnore": False} for f in files]
            for row in rows:
                row["uploadMode"] = modes[row["path"].endswith((".safetensors", ".bin"))]
            self._answer({"files": rows})
        elif place.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.url}/lfs-object/{one['oid']}", "header": {}}}}
                for one in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/lfs-object/" in place:
            self.objects[place.rpartition("/")[2]] = body
            self._answer({})
        elif "/commit/" in place:
            files = self.repositories["/".join(name.split("/")[:2])]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    self.commits.append(value["summary"])
                elif line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
            self._answer({"commitUrl": f"{self.url}/org/student/commit/abc", "commitOid": "a" * 40})
        elif place.startswith("/api/models/") and name.split("/revision")[0] in self.repositories:
            self._answer({"id": name, "modelId": name, "sha": "b" * 40, "siblings": []})
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_GET = do_HEAD = do_POST = do_PUT = _serve


@pytest.fixture
def hub(monkeypatch):
    fields = {"repositories": {}, "commits": [], "objects": {}, "refuse": {}, "private": []}
    handler = type("Handler", (Hub,), fields)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", handler.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "right")
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(make_random):
    return make_random("byt5", "standard")


def push(run, tmp_path, **options):
    out = tmp_path / "out"
    return out, export(ExportConfig(model_dir=str(run), output=str(out), push="org/student", **options))


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_all_files_are_pushed_as_one_commit(run, tmp_path, hub):
    out, done = push(run, tmp_path)
    assert done.address == f"{hub.url}/org/student/commit/abc"
    assert hub.repositories == {"org/student": contents(out)}
    assert "model.safetensors" in hub.repositories["org/student"] and len(hub.commits) == 1
    assert hub.private == [True] or hub.private == ["private"]
    card = hub.repositories["org/student"]["README.md"].decode()
    assert "\n# student\n" in card and 'FOLDER = "org/student"' in card


def test_a_repository_that_is_there_is_added_to(run, tmp_path, hub):
    hub.repositories["org/student"] = {"LICENSE": b"mine"}
    out, _ = push(run, tmp_path)
    assert hub.repositories["org/student"] == {"LICENSE": b"mine", **contents(out)}
    assert hub.private == []


def test_without_a_token_nothing_is_exported(run, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(hub_client, "get_token", lambda: None)
    with pytest.raises(
        UserError, match="--push org/student: no token of the hub: run hf auth login, or set HF_"
    ):
        push(run, tmp_path)
    assert not (tmp_path / "out").exists() and not hub.repositories


def test_without_the_client_the_way_to_get_it_is_said(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="--push org/student: .* pip install huggingface_hub"):
        push(run, tmp_path)


@pytest.mark.parametrize(
    "refuse, existed, message",
    [
        ({"/api/models/": 401}, False, "the token is not valid .401.*nothing was pushed"),
        ({"/api/repos/create": 403}, False, "the token may not write there .403.*nothing was pushed"),
        ({"/commit/": 403}, True, "the token may not write there .403.*the repository is as it was"),
        ({"/lfs-object/": 403}, False, "403.*the repository was made and is empty"),
        ({"/commit/": 403}, False, "403.*the repository was made and is empty"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_is_there(run, tmp_path, hub, capsys, refuse, existed, message):
    hub.refuse.update(refuse)
    if existed:
        hub.repositories["org/student"] = {}
    out = tmp_path / "out"
    assert cli.main(["export", str(run), "--output", str(out), "--push", "org/student"]) == 1
    error = capsys.readouterr().err.rpartition("\r")[2]  # after the client's progress bar
    error = error[error.index("error: ") :]
    assert error.startswith("error: --push org/student: ") and error.count("\n") == 1
    assert re.search(message, error) and f"hf upload org/student {out} tries again" in error
    assert (out / "model.safetensors").exists()
    assert not any(hub.repositories.values())


def test_a_hub_that_cannot_be_reached_is_one_line(run, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="the hub cannot be reached .*out stays: hf upload.*nothing was pushed"):
        push(run, tmp_path)


@pytest.mark.parametrize("name", ["student", "org/a/b", "org/", "hf://org/student"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(UserError, match="expected ORG/NAME"):
        ExportConfig(model_dir="run", push=name)
