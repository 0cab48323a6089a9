"""Workers in processes of their own: start-up, and the accelerator's benchmark on the CPU."""

import dataclasses
import subprocess
import sys

import pytest

from benchmarks import gpu, startup, worker


def test_the_import_is_measured_in_a_process_of_its_own(settings):
    found = startup.run(dataclasses.replace(settings, repeats=1), parts=("import", "import_trainer"))
    assert all(one["seconds"][0] > 0.0 for one in found.values())
    assert 0.0 < found["import"]["peak_gib"] < found["import_trainer"]["peak_gib"]


def test_a_worker_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no_such_part"):
        worker.call("benchmarks.startup", "--worker", "no_such_part", "tiny")


def test_batches_of_random_ids_need_no_grain():
    code = "import sys, benchmarks.fabricated; print({'tensorflow', 'gin', 'grain'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.slow
def test_the_accelerators_benchmark_runs_on_a_cpu(tiny):
    pytest.importorskip("torch", reason="the benchmark's peer")
    found = gpu.run(
        ["small"],
        batch=4,
        updates=2,
        repeats=1,
        lengths=(128, 64),
        device="cpu",
        compiled=False,
        peak_size=64,
    )
    assert found["peak_flops"] > 0
    for name in gpu.CONTESTANTS:
        told = found["sizes"]["small"][name]
        assert told["pairs_per_second"]["median"] > 0 and told["mfu"] > 0
        assert told["imported"] == []  # no TensorFlow, gin or grain beside what is measured
