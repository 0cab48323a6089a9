import json
import os
import platform
import subprocess
import sys

import pytest

# Page faults of the second of two steps that each allocate and free 256 MB in a thread, as XLA's do.
STEPS = """
import json, resource, threading
import numpy as np
from distill_jax.cli import host_memory
kept = host_memory.keep_freed() if {keep} else None
faults = []
def steps():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(2**25)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=steps)
thread.start()
thread.join()
print(json.dumps([kept, faults[1]]))
"""


def steps(keep, platforms):
    environment = os.environ | {"JAX_PLATFORMS": platforms}
    command = [sys.executable, "-c", STEPS.format(keep=keep)]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_second_step_faults_no_pages_in():
    assert steps(True, "cpu")[0] is True
    assert steps(True, "cpu")[1] < 100
    assert steps(False, "cpu")[1] > 100  # of 4 KiB, or of 2 MiB where the system gives huge ones unasked


def test_nothing_is_changed_where_an_accelerator_may_be():
    assert steps(True, "cuda,cpu")[0] is False
