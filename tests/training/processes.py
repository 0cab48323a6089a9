"""Starts a run of several processes on this machine, joined by `jax.distributed`."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

MODEL = """
include 'recipes/step_by_step.gin'
VOCABULARY = 'bytes'
VOCAB_SIZE = 384
EMB_DIM = 24
NUM_HEADS = 4
NUM_ENCODER_LAYERS = 1
NUM_DECODER_LAYERS = 1
HEAD_DIM = 6
MLP_DIM = 48
MLP_ACTIVATIONS = ('relu',)
MIXTURE_OR_TASK_NAME = 'entailment_step_by_step'
TASK_FEATURE_LENGTHS = {'inputs': 112, 'targets': 40}
SCHEDULE = 'constant'
LEARNING_RATE = 1e-3
NUM_EXAMPLES = 100
BATCH_SIZE = 12
LOG_PERIOD = 1
EVAL_PERIOD = 0
"""

TRAIN = """
import gc, runpy
from distill_jax.training import distributed
distributed.SHUTDOWN_SECONDS = 5
gc.set_threshold(50_000, 20, 20)  # as in conftest.py
runpy.run_module("distill_jax.train", run_name="__main__")
"""


def arguments(folder, *, steps, period=10, mesh=None, extra=()):
    """Of the command that trains in `folder`."""
    gin = folder.parent / "mini.gin"
    gin.write_text(MODEL)
    return [
        f"--gin_file={gin}",
        f"--gin.MODEL_DIR={folder}",
        f"--gin.TRAIN_STEPS={steps}",
        f"--gin.CHECKPOINT_PERIOD={period}",
        f"--gin.MESH={mesh}",
        *extra,
    ]


class Job:
    """Processes that train in `folder`; their output is in `folder/../<name>.<n>.log`."""

    def __init__(self, folder, cache, count, *, devices=1, **options):
        flags, steps = arguments(folder, **options), options["steps"]
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        environment = os.environ | {
            "DISTILL_JAX_CACHE": str(cache),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
            "OMP_NUM_THREADS": "1",
        }
        self.folder = folder
        self._logs = [folder.parent / f"{folder.name}.{steps}.{count}.{n}.log" for n in range(count)]
        self.processes = []
        for number, log in enumerate(self._logs):
            own = {}
            if count > 1:
                own = {
                    "COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                    "NUM_PROCESSES": str(count),
                    "PROCESS_ID": str(number),
                }
            with log.open("w") as out:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-c", TRAIN, *flags],
                        env=environment | own,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                    )
                )

    def output(self, number=0):
        return self._logs[number].read_text()

    def wait(self, timeout=400):
        """The exit statuses of all."""
        try:
            return [process.wait(timeout) for process in self.processes]
        finally:
            self.kill()

    def kill(self):
        for process in self.processes:
            process.kill()

    def until(self, condition, timeout=300):
        """Waits for `condition()`, for as long as the processes live."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, self.output()
            assert self.processes[0].poll() is None, self.output()
            time.sleep(0.005)


def losses(folder):
    """Training loss by step."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                fields = json.loads(line)
                if "train/loss" in fields:
                    found[fields["step"]] = fields["train/loss"]
    return found
