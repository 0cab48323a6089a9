"""A teacher on the loopback for `annotate`: OpenAI's chat completions, each answer a function of its prompt."""

import contextlib
import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator

CLASSES = ("entailment", "neutral", "contradiction")
DELAY = 0.02  # seconds before an answer


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = hashlib.sha256(body["messages"][-1]["content"].encode()).digest()[0]
        time.sleep(DELAY)
        message = {"role": "assistant", "content": f"Reason {number}. So the answer is {CLASSES[number % 3]}."}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        answer["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
        answer["usage"] = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        data = json.dumps(answer).encode()
        with contextlib.suppress(ConnectionError):  # of a client that was killed
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def teacher() -> Iterator[str]:
    """Answers on a free port, in threads of this process; yields the base of its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
