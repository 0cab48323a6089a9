import signal
import socket
import subprocess
import sys

import pytest

WAITS = """
import sys, time
from distill_jax.training import peers
peers.begin(sys.argv[1])
peers.join(coordinator_address=sys.argv[2], num_processes=3, process_id=int(sys.argv[3]))
print("joined", flush=True)
if sys.argv[4] == "works":
    time.sleep(300)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_one_of_three_that_dies_is_named_by_one_that_works_and_by_one_that_is_done(tmp_path, lost):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WAITS, str(tmp_path), address, str(number), does],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, does in enumerate(["works", "works", "leaves"])
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["joined\n"] * 3
        processes[lost].send_signal(signal.SIGKILL)
        for process in processes[1 - lost], processes[2]:
            _, text = process.communicate(timeout=60)
            assert process.returncode == 1, text
            *before, line = text.splitlines()
            assert line == (
                f"error: process {lost} of 3 is gone, before the first step: start all of them again, "
                "the run begins anew: it has no complete checkpoint yet"
            )
            for sign in ("error: ", "stack trace", "SIGABRT", "Traceback", "terminate called"):
                assert sign not in "\n".join(before), text
    finally:
        for process in processes:
            process.kill()
