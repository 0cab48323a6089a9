"""kill -9 at random moments: every row exactly once in the store, nothing that is stored asked for again."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from teacher_helpers import examples, lines

ROWS, KILLS = 500, 5


def stored(path) -> set[str]:
    """Ids of the whole lines, as the next run will find them."""
    raw = path.read_bytes() if path.exists() else b""
    return {json.loads(line)["id"] for line in raw.splitlines(keepends=True) if line.endswith(b"\n")}


@pytest.mark.slow
def test_rows_are_stored_once_whatever_is_killed(loopback, tmp_path):
    data, store, output = tmp_path / "rows.jsonl", tmp_path / "store.jsonl", tmp_path / "out.jsonl"
    rows = examples(ROWS)
    data.write_text("".join(json.dumps({"id": row.id, "input": row.input}) + "\n" for row in rows))
    faults = {"429": 0.02, "500": 0.02, "cut": 0.02, "half": 0.02, "malformed": 0.02}
    server = loopback(faults=faults, delay=0.02)
    command = [sys.executable, "-m", "distill_jax.cli", "annotate", str(data), "--base-url", server.url]
    command += ["--model", "m", "--store", str(store), "--concurrency", "8", "--first-wait", "0.05"]
    command += ["--classes", "entailment,neutral,contradiction", "--output", str(output)]
    rng, before, repeated, killed = random.Random(0), set(), set(), 0
    asked_before = 0
    by_input = {row.input: row.id for row in rows}
    while killed < KILLS:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        grown = len(before) + rng.randint(5, 90)
        while process.poll() is None and len(stored(store)) < grown:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.05)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        killed += 1
        time.sleep(0.1)  # until the server has read what the dead process sent
        asked = server.prompts()
        repeated |= {by_input[prompt] for prompt in asked[asked_before:]} & before
        asked_before, before = len(asked), stored(store)
        assert len(before) < ROWS
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = server.prompts()
    repeated |= {by_input[prompt] for prompt in asked[asked_before:]} & before
    assert repeated == set()
    kept = [line["id"] for line in lines(store)]
    assert sorted(kept) == sorted(row.id for row in rows)  # each exactly once
    assert [line["id"] for line in lines(output)] == [row.id for row in rows]
    answered = sum(1 for entry in server.log if not entry["fault"])
    assert answered - ROWS <= killed * 8  # at most what was under way at a kill was asked for twice


def test_a_stop_signal_stores_what_is_under_way(loopback, tmp_path):
    data, store = tmp_path / "rows.jsonl", tmp_path / "store.jsonl"
    data.write_text("".join(json.dumps({"id": r.id, "input": r.input}) + "\n" for r in examples(200)))
    server = loopback(delay=0.5)
    command = [sys.executable, "-m", "distill_jax.cli", "annotate", str(data), "--base-url", server.url]
    command += ["--model", "m", "--store", str(store), "--concurrency", "8"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while server.open < 8:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 3 and "stopped by SIGTERM" in told
    assert len(lines(store)) == server.count >= 8
