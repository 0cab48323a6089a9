"""The hub's HTTP API on the loopback, as much of it as its client asks for, and what goes wrong with it."""

import contextlib
import hashlib
import http.server
import json
import pathlib
import threading
import time

PROPOSAL = "Adding `safetensors` variant of this model"


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository, `org/student`: the files of `folder`, and of `conversion` at refs/pr/1."""

    folder: pathlib.Path
    conversion: pathlib.Path | None = None
    author = "SFconvertbot"  # of the conversion
    asked: list[str]
    status = 200  # of every answer
    error_code = ""  # X-Error-Code
    cut = ""  # a file whose content ends halfway
    wait = 0.0  # seconds before each answer

    def log_message(self, *args):
        """Says nothing."""

    def _answer(self, content, body, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.send_response(self.status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _json(self, content, body):
        self._answer(json.dumps(content).encode(), body, Content_Type="application/json")

    def _serve(self, body):
        time.sleep(self.wait)
        path = self.path.split("?")[0].replace("%2F", "/")
        known = path.removeprefix("/api/models").startswith("/org/student")
        if self.status != 200 or not known:
            self.status = self.status if self.status != 200 else 404
            code = self.error_code if known else "RepoNotFound"
            return self._answer(b"", body, **({"X_Error_Code": code} if code else {}))
        is_conversion = "refs/pr/1" in path or "b" * 40 in path
        folder, commit = (self.conversion, "b" * 40) if is_conversion else (self.folder, "a" * 40)
        names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) if folder else []
        rest = path.partition("/resolve/")[2].removeprefix("refs/pr/1/")
        name = rest if rest in names else rest.partition("/")[2]
        if path.endswith("/discussions"):
            each = {"num": 1, "title": PROPOSAL, "status": "open", "isPullRequest": True}
            each |= {"author": {"name": self.author}, "createdAt": "2024-01-01T00:00:00.000Z"}
            each |= {"repo": {"name": "org/student", "type": "model"}}
            found = [each] if self.conversion else []
            return self._json({"discussions": found, "count": len(found), "start": 0}, body)
        if path.startswith("/api/models/org/student/tree/"):
            sizes = {n: (folder / n).stat().st_size for n in names}
            rows = [{"type": "file", "path": n, "size": sizes[n], "oid": "0" * 40} for n in names]
            return self._json(rows, body)
        if path.startswith("/api/models/org/student"):
            siblings = [{"rfilename": n} for n in names]
            content = {"id": "org/student", "modelId": "org/student", "sha": commit, "siblings": siblings}
            return self._json(content, body)
        self.asked.append(name)
        content = (folder / name).read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X_Repo_Commit": commit}
        headers |= {"Content_Length": str(len(content))}
        self._answer(content[: len(content) // 2] if name == self.cut else content, body, **headers)
        if name == self.cut and body:
            self.close_connection = True

    def do_HEAD(self):
        """Headers alone."""
        self._serve(False)

    def do_GET(self):
        """A whole answer."""
        self._serve(True)


@contextlib.contextmanager
def serve(folder, cache, monkeypatch):
    """The handler of a hub that the client talks to, with a cache of its own; its attributes can be changed."""
    from huggingface_hub import constants

    handler = type("Handler", (Hub,), {"folder": folder, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)  # HF_ENDPOINT, HF_HUB_CACHE: read when it is imported
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    try:
        yield handler
    finally:
        server.shutdown()
        server.server_close()
