"""Workers in processes of their own: start-up, and the accelerator's benchmark on the CPU."""

import dataclasses
import json
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


def test_a_worker_that_takes_too_long_is_ended():
    with pytest.raises(RuntimeError, match=r"took longer than 0\.5 s"):
        worker.call("timeit", "import time; time.sleep(60)", limit=0.5)


@pytest.mark.slow
def test_the_accelerators_benchmark_runs_on_a_cpu(tiny):
    pytest.importorskip("torch", reason="the benchmark's peer")
    written = []
    settings = gpu.Settings(
        cases=["small:4"],
        decoded=4,
        decoded_tokens=4,
        decoding_size="small",
        updates=2,
        repeats=1,
        lengths={"ours": (128, 64), "ours_long_rows": (256, 128), "t5x_network": (128, 64)},
        device="cpu",
        compiled=False,
        peak_size=64,
    )
    found = gpu.run(settings, lambda now: written.append(json.dumps(now)))
    assert found["peak_flops"] > 0
    measured = {name: one for name, one in found["cases"]["small:4"].items() if one is not None}
    assert set(gpu.CONTESTANTS) - set(measured) <= {"t5x_network"}  # whose source is on no registry
    for told in measured.values():
        assert told["per_second"]["median"] > 0 and told["mfu"] > 0
        assert told["imported"] == []  # no TensorFlow, gin or grain beside what is measured
    for name in gpu.DECODERS:
        assert found["decode"][name]["per_second"]["median"] > 0
    assert written[-1] == json.dumps(found) and len(written) == len(measured) + len(gpu.DECODERS)


def test_a_contestant_that_fails_leaves_the_others(monkeypatch):
    def call(module, *args, stdin, limit=None, **options):
        if stdin["work"] == "peak":
            return {"peak": 1e12, "device": "a device"}
        if stdin["contestant"] == "ours":
            raise RuntimeError("out of memory")
        return {"rates": [2.0, 4.0, 3.0], "flops_per_pair": 1e11, "process_seconds": 1.0}

    monkeypatch.setattr(worker, "call", call)
    settings = gpu.Settings(cases=["small:4"], contestants=["ours", "ours_long_rows"], decoded=0)
    told = gpu.run(settings)["cases"]["small:4"]
    assert told["ours"] == {"failed": "out of memory"}
    assert told["ours_long_rows"]["per_second"]["median"] == 3.0
    assert told["ours_long_rows"]["mfu"] == pytest.approx(0.3)


def test_nothing_is_begun_after_the_minutes(monkeypatch):
    monkeypatch.setattr(worker, "call", lambda *args, stdin, **options: {"peak": 1.0, "device": stdin["work"]})
    found = gpu.run(gpu.Settings(cases=["small:4"], minutes=-1.0))
    assert set(found["cases"]["small:4"].values()) == {None} == set(found["decode"].values())
