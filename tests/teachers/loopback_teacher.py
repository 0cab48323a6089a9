"""A teacher on a free port of the loopback, with faults on demand: what a bad day of an endpoint looks like.

It speaks OpenAI's chat completions, completions, files and batches, Anthropic's messages and Gemini's
generateContent. Alone (`python loopback_teacher.py`) it prints its address and answers until it is stopped.
"""

import asyncio
import collections
import contextlib
import email.parser
import email.policy
import hashlib
import json
import math
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

CLASSES = ("entailment", "neutral", "contradiction")
FAULTS = ("429", "500", "hang", "cut", "half", "malformed", "empty", "html")


def digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def answer(prompt: str, body: Mapping) -> str:
    """A reason and a class that depend on the prompt alone, or with temperature on the seed too."""
    varied = f"{prompt}{body.get('seed')}" if body.get("temperature") else prompt
    number = digest(varied)
    return f"Reason {number} holds. So the answer is {CLASSES[number % 3]}."


def logprobs(text: str, classes: Sequence[str] = CLASSES) -> list[dict]:
    """Tokens that are words; one that is a class has the other classes as alternatives."""
    tokens = re.findall(r"\s*(?:\w+|[^\w\s])", text)
    listed = []
    for token in tokens:
        word = token.strip()
        others = {token.replace(word, c): math.log(0.1) for c in classes if word in classes and c != word}
        own = math.log(1.0 - 0.1 * len(others)) if others else 0.0
        top = {token: own, **others}
        listed.append(
            {
                "token": token,
                "logprob": own,
                "top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()],
            }
        )
    return listed


class Loopback:
    """Context manager; `url` is the base of the OpenAI protocol.

    Args:
      answers: (prompt, body) -> text of the completion.
      faults: fault -> share of requests; see `FAULTS`.
      script: faults of the first requests, in order; "" for none.
      delay: seconds before an answer.
      retry_after: the header of a 429; None for none.
      key: the bearer token asked for; None for no check.
      echo: puts the request's Authorization into every error and answer, as a careless proxy might.
      batch_polls: how often a batch is `in_progress` before it is `completed`.
      hang: seconds that a request with the fault `hang` waits.
      respond: (path, request) -> (status, content, headers), in place of an answer; None for an answer. The
        content is sent as JSON, a text as it is, of the content type in the headers.
    """

    def __init__(
        self,
        answers: Callable[[str, Mapping], str] = answer,
        faults: Mapping[str, float] | None = None,
        script: Sequence[str] = (),
        delay: float = 0.0,
        retry_after: str | None = "0",
        key: str | None = None,
        echo: bool = False,
        batch_polls: int = 1,
        hang: float = 30.0,
        seed: int = 0,
        keep_log: bool = True,
        respond: Callable[[str, Mapping], tuple | None] | None = None,
    ):
        self.respond = respond
        self.answers, self.faults, self.script = answers, dict(faults or {}), collections.deque(script)
        self.delay, self.retry_after, self.key, self.echo = delay, retry_after, key, echo
        self.batch_polls, self.hang, self.keep_log = batch_polls, hang, keep_log
        self.log: list[dict] = []
        self.injected: collections.Counter = collections.Counter()
        self.open = self.most_open = self.count = 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self._random = random.Random(seed)
        self._ready = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def prompts(self) -> list[str]:
        """The last message of each request so far, in order."""
        return [entry["prompt"] for entry in list(self.log) if "prompt" in entry]

    async def _main(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, _, rest = head.partition("\r\n")
                method, path, _ = first.split(" ", 2)
                headers = dict(email.parser.HeaderParser(policy=email.policy.HTTP).parsestr(rest))
                headers = {name.lower(): value for name, value in headers.items()}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                try:
                    if not await self._respond(writer, method, path, headers, body):
                        break
                finally:
                    self.open -= 1
        writer.close()

    async def _respond(self, writer, method, path, headers, body) -> bool:
        """Answers one request; False when the connection is to be closed."""
        fault = ""
        completes = path.endswith(("/completions", "/messages", ":generateContent"))
        if completes:
            self.count += 1
            fault = self.script.popleft() if self.script else self._draw()
        request = json.loads(body) if body[:1] == b"{" else {}
        entry = {"method": method, "path": path, "time": time.monotonic(), "fault": fault}
        if completes:
            entry |= {"prompt": _prompt(request), "body": request}
        if self.keep_log:
            self.log.append(entry)
        said = headers.get("authorization", "") if self.echo else ""
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return _send(writer, 401, {"error": {"message": f"Incorrect API key provided {said}"}})
        if fault:
            self.injected[fault] += 1
        if fault == "429":
            extra = {} if self.retry_after is None else {"Retry-After": self.retry_after}
            return _send(writer, 429, {"error": {"message": f"slow down {said}"}}, extra)
        if fault == "quota":
            error = {"message": f"no credit {said}", "code": "insufficient_quota"}
            return _send(writer, 429, {"error": error})
        if fault in ("500", "400"):
            return _send(writer, int(fault), {"error": {"message": f"trouble {said}"}})
        if fault == "html":
            return _send(writer, 502, "<html>Bad gateway</html>")
        if fault == "hang":
            await asyncio.sleep(self.hang)
            return False
        if fault == "cut":
            return False
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.respond and (told := self.respond(path, request)):
            return _send(writer, *told)
        status, response = self._answer(method, path, headers, body, request, said)
        if fault == "empty":
            response = {**response, "choices": []}
        raw = response if isinstance(response, bytes) else json.dumps(response).encode()
        if fault == "malformed":
            raw = raw[: len(raw) // 2]
        if fault == "half":
            writer.write(_head(status, len(raw)) + raw[: len(raw) // 2])
            await writer.drain()
            return False
        writer.write(_head(status, len(raw)) + raw)
        await writer.drain()
        return True

    def _draw(self) -> str:
        number = self._random.random()
        for fault, share in self.faults.items():
            number -= share
            if number < 0:
                return fault
        return ""

    def _answer(self, method, path, headers, body, request, said):
        path = path.partition("?")[0]
        if path == "/v1/chat/completions":
            return 200, self.chat(request, said)
        if path == "/v1/completions":
            return 200, self.completion(request)
        if path == "/v1/messages":
            text = self.answers(_prompt(request), request)
            usage = {"input_tokens": 7, "output_tokens": len(text.split())}
            content = [{"type": "text", "text": text}]
            told = {"id": "msg_1", "type": "message", "role": "assistant", "model": request["model"]}
            return 200, {**told, "content": content, "stop_reason": "end_turn", "usage": usage}
        if path.endswith(":generateContent"):
            text = self.answers(_prompt(request), request)
            content = {"role": "model", "parts": [{"text": text}]}
            usage = {"promptTokenCount": 7, "candidatesTokenCount": len(text.split())}
            return 200, {
                "candidates": [{"content": content, "finishReason": "STOP"}],
                "usageMetadata": usage,
                "modelVersion": "gemini-served",
            }
        if path == "/v1/files" and method == "POST":
            name = f"file-{len(self.files)}"
            self.files[name] = _uploaded(headers, body)
            return 200, {"id": name, "object": "file", "bytes": len(body), "purpose": "batch", **_FILE}
        if path.startswith("/v1/files/") and path.endswith("/content"):
            return 200, self.files[path.split("/")[3]]
        if path == "/v1/batches" and method == "POST":
            name = f"batch-{len(self.batches)}"
            batch = {"id": name, "object": "batch", "created_at": 0, "status": "validating", **request}
            self.batches[name] = {**batch, "polls": 0}
            return 200, batch
        if path == "/v1/batches":
            return 200, {"object": "list", "data": list(self.batches.values()), "has_more": False}
        if path.startswith("/v1/batches/"):
            return 200, self._poll(self.batches[path.split("/")[3]])
        return 404, {"error": {"message": f"no such path {path}"}}

    def _poll(self, batch: dict) -> dict:
        batch["polls"] += 1
        batch["status"] = "in_progress" if batch["polls"] <= self.batch_polls else "completed"
        if batch["status"] == "completed" and "output_file_id" not in batch:
            good, bad = [], []
            for line in self.files[batch["input_file_id"]].decode().splitlines():
                request = json.loads(line)
                fault = self.script.popleft() if self.script else self._draw()
                chat = request["url"].endswith("chat/completions")
                reply = self.chat(request["body"], "") if chat else self.completion(request["body"])
                response = {"status_code": 500 if fault else 200, "body": reply, "request_id": "r"}
                row = {"id": "x", "custom_id": request["custom_id"], "response": response, "error": None}
                (bad if fault else good).append(json.dumps(row))
            for field, rows in (("output_file_id", good), ("error_file_id", bad)):
                if rows:
                    batch[field] = f"file-{len(self.files)}"
                    self.files[batch[field]] = ("\n".join(rows) + "\n").encode()
        return batch

    def chat(self, request: Mapping, said: str) -> dict:
        prompt = _prompt(request)
        choices = []
        for number in range(request.get("n") or 1):
            seed = request.get("seed")
            body = {**request, "seed": None if seed is None else seed + number}
            text = self.answers(prompt, body) + said
            message = {"role": "assistant", "content": text}
            choices.append({"index": number, "message": message, "finish_reason": "stop"})
            if request.get("logprobs"):
                choices[-1]["logprobs"] = {"content": logprobs(text)}
        return {"object": "chat.completion", "choices": choices, **_told(request, choices)}

    def completion(self, request: Mapping) -> dict:
        text = self.answers(_prompt(request), request)
        choice = {"index": 0, "text": text, "finish_reason": "stop"}
        if request.get("logprobs"):
            listed = logprobs(text)
            choice["logprobs"] = {
                "tokens": [t["token"] for t in listed],
                "token_logprobs": [t["logprob"] for t in listed],
                "top_logprobs": [{a["token"]: a["logprob"] for a in t["top_logprobs"]} for t in listed],
                "text_offset": [],
            }
        return {"object": "text_completion", "choices": [choice], **_told(request, [choice])}


_FILE = {"created_at": 0, "filename": "batch.jsonl", "status": "processed"}


def _told(request: Mapping, choices: Sequence[Mapping]) -> dict:
    texts = [c["message"]["content"] if "message" in c else c["text"] for c in choices]
    asked, said = len(_prompt(request).split()), sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    return {"id": f"cmpl-{digest(texts[0])}", "created": 0, "model": request["model"], "usage": usage}


def _prompt(request: Mapping) -> str:
    if "messages" in request:
        content = request["messages"][-1]["content"]
        return content if isinstance(content, str) else content[0]["text"]
    if "contents" in request:
        return request["contents"][-1]["parts"][0]["text"]
    return request.get("prompt", "")


def _uploaded(headers: Mapping, body: bytes) -> bytes:
    """The file in a multipart form."""
    boundary = headers["content-type"].partition("boundary=")[2].strip('"').encode()
    for part in body.split(b"--" + boundary):
        if b"filename=" in part:
            return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    raise ValueError("no file in the form")


def _head(status: int, length: int, extra: Mapping[str, str] | None = None, kind="application/json") -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in (extra or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _send(writer, status: int, content, extra: Mapping[str, str] | None = None) -> bool:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else json.dumps(content).encode()
    kind = "text/html" if isinstance(content, str) else "application/json"
    extra = dict(extra or {})
    writer.write(_head(status, len(raw), extra, extra.pop("Content-Type", kind)) + raw)
    return True


if __name__ == "__main__":
    delay = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    with Loopback(delay=delay, keep_log=False) as server:
        print(server.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
