import concurrent.futures
import os
import signal
import socket
import subprocess
import sys

import pytest

from distill_jax.errors import UserError
from distill_jax.training import distributed

HAND = {"COORDINATOR_ADDRESS": "10.0.0.2:8476", "NUM_PROCESSES": "4", "PROCESS_ID": "3"}


def test_one_process_needs_nothing():
    assert distributed.detect({}) is None
    assert distributed.detect({"TPU_WORKER_HOSTNAMES": "localhost"}) is None


def test_a_process_started_by_hand_in_a_slurm_job_is_alone():
    shell = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert distributed.detect(shell) is None  # sbatch sets these for the script itself
    assert distributed.detect(shell | {"SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "2(x3)"}) is None
    assert distributed.detect(shell | {"SLURM_STEP_NUM_TASKS": "1"}) is None  # a shell of salloc


def test_by_hand_goes_first():
    cluster = distributed.detect(HAND | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"})
    assert cluster.arguments == {
        "coordinator_address": "10.0.0.2:8476",
        "num_processes": 4,
        "process_id": 3,
    }


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "2"}, "SLURM task 2 of 8"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, "TPU worker 1"),
        ({"DISTRIBUTED": "auto"}, "DISTRIBUTED=auto"),
    ],
)
def test_what_jax_finds_out_itself(environment, name):
    assert distributed.detect(environment) == distributed.Cluster(name, {})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PROCESS_ID": "0"}, "PROCESS_ID given, but not COORDINATOR_ADDRESS, NUM_PROCESSES"),
        (HAND | {"PROCESS_ID": "4"}, "expected a number from 0 to NUM_PROCESSES - 1 = 3"),
        (HAND | {"NUM_PROCESSES": "many"}, "NUM_PROCESSES 'many': expected a whole number from 1 on"),
        (HAND | {"NUM_PROCESSES": "0"}, "NUM_PROCESSES '0': expected a whole number from 1 on"),
        (HAND | {"PROCESS_ID": "-1"}, "PROCESS_ID '-1': expected a whole number from 0 on"),
        (HAND | {"COORDINATOR_ADDRESS": "10.0.0.2"}, "expected HOST:PORT"),
        (HAND | {"COORDINATOR_ADDRESS": ":8476"}, "expected HOST:PORT"),
        ({"DISTRIBUTED": "yes"}, "expected auto"),
    ],
)
def test_what_is_wrong_is_said(environment, message):
    with pytest.raises(UserError, match=message):
        distributed.detect(environment)


@pytest.mark.parametrize("seconds", ["ten", "0", "-3", "1e1"])
def test_seconds_to_start_are_checked(monkeypatch, seconds):
    monkeypatch.setenv("DISTRIBUTED_START_SECONDS", seconds)
    with pytest.raises(UserError, match=f"DISTRIBUTED_START_SECONDS '{seconds}': expected a whole number"):
        distributed.initialize()


MEMBER = """
import sys, time
from distill_jax.training import distributed
distributed.SHUTDOWN_SECONDS = 2
distributed.initialize()
print("joined", flush=True)
kind = sys.argv[1]
if kind == "works":
    time.sleep(300)
if kind == "waits":
    distributed.meet()
if kind == "fails":
    sys.exit("error: a mistake")
"""


def members(*kinds):
    """A run of three processes on this machine, all of them joined."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "COORDINATOR_ADDRESS": address, "NUM_PROCESSES": "3"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, kind],
            env=environment | {"PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, kind in enumerate(kinds)
    ]
    assert [process.stdout.readline() for process in processes] == ["joined\n"] * 3
    return processes


def end_when_one_is_gone(kinds):
    processes = members(*("works" if kind == "lost" else kind for kind in kinds))
    try:
        for process, kind in zip(processes, kinds, strict=True):
            if kind == "lost":
                process.send_signal(signal.SIGKILL)
        for process in processes:
            _, text = process.communicate(timeout=60)
            assert process.returncode != 0, (kinds, text)
            if process.returncode != -signal.SIGKILL:
                assert "JAX distributed service detected fatal errors" in text or "a mistake" in text, kinds
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_when_one_of_three_is_gone_the_others_end_within_a_minute():
    """Whatever they do: compute, wait for the others, or have come to the end. All runs idle at once."""
    runs = (("lost", "works", "leaves"), ("waits", "lost", "leaves"), ("waits", "fails", "works"))
    with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(end_when_one_is_gone, runs))


def ends_without_others(process_id):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    environment = {
        "COORDINATOR_ADDRESS": address,
        "NUM_PROCESSES": "2",
        "PROCESS_ID": process_id,
        "DISTRIBUTED_START_SECONDS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", MEMBER, "works"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode != 0 and "joined" not in done.stdout, done.stderr


@pytest.mark.slow
def test_a_process_does_not_wait_for_ever_for_others_that_never_come():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(ends_without_others, ("0", "1")))
