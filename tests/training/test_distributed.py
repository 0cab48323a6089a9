import pytest

from distill_jax.errors import UserError
from distill_jax.training import distributed

HAND = {"COORDINATOR_ADDRESS": "10.0.0.2:8476", "NUM_PROCESSES": "4", "PROCESS_ID": "3"}


def test_one_process_needs_nothing():
    assert distributed.detect({}) is None
    assert distributed.detect({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None
    assert distributed.detect({"SLURM_NTASKS": "8"}) is None  # a batch script, outside of srun
    assert distributed.detect({"TPU_WORKER_HOSTNAMES": "localhost"}) is None


def test_by_hand_goes_first():
    cluster = distributed.detect(HAND | {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"})
    assert cluster.arguments == {
        "coordinator_address": "10.0.0.2:8476",
        "num_processes": 4,
        "process_id": 3,
    }


@pytest.mark.parametrize(
    ("environment", "how"),
    [
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "2"}, "SLURM task 2 of 8"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, "TPU worker 1"),
        ({"DISTRIBUTED": "auto"}, "DISTRIBUTED=auto"),
    ],
)
def test_what_jax_finds_out_itself(environment, how):
    assert distributed.detect(environment) == distributed.Cluster(how, {})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PROCESS_ID": "0"}, "PROCESS_ID given, but not COORDINATOR_ADDRESS, NUM_PROCESSES"),
        (HAND | {"PROCESS_ID": "4"}, "expected a number from 0 to NUM_PROCESSES - 1 = 3"),
        (HAND | {"NUM_PROCESSES": "many"}, "NUM_PROCESSES 'many': expected a number"),
        (HAND | {"COORDINATOR_ADDRESS": "10.0.0.2"}, "expected HOST:PORT"),
        ({"DISTRIBUTED": "yes"}, "expected auto"),
    ],
)
def test_what_is_wrong_is_said(environment, message):
    with pytest.raises(UserError, match=message):
        distributed.detect(environment)
