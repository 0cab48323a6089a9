"""The launch files: read by the tools that will read them, and what they run is what they say."""

import os
import pathlib
import subprocess

import pytest
import yaml

from distill_jax.training.distributed import detect

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"


@pytest.mark.parametrize("name", ["tpu_vm.sh", "slurm.sbatch"])
def test_shell_syntax(name):
    done = subprocess.run(["bash", "-n", str(LAUNCH / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def command(folder, name, body):
    """A stand-in for a program that is not on this machine: notes its arguments."""
    path = folder / name
    path.write_text(f'#!/usr/bin/env bash\nprintf \'%s\\n\' "$0" "$@" >> {folder}/called\n{body}\n')
    path.chmod(0o755)


def run(script, arguments, folder, **environment):
    return subprocess.run(
        [str(LAUNCH / script), *arguments],
        env=os.environ | environment | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_tpu_vm_quotes_the_command_for_the_hosts(tmp_path):
    command(tmp_path, "gcloud", "")
    done = run("tpu_vm.sh", ["slice", "zone", "train", "my task", "--alpha", "0.5"], tmp_path)
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "called").read_text()
    assert "--worker=all" in called
    assert r"DISTRIBUTED=auto .venv/bin/distill-jax train my\ task --alpha 0.5" in called
    assert run("tpu_vm.sh", ["slice"], tmp_path).returncode == 2


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (1, False), (143, True)])
def test_slurm_queues_again_after_a_preemption_alone(tmp_path, status, requeued):
    command(tmp_path, "srun", f"exit {status}")
    command(tmp_path, "scontrol", "")
    done = run("slurm.sbatch", ["train", "svamp"], tmp_path, SLURM_JOB_ID="17")
    called = (tmp_path / "called").read_text().splitlines()
    assert done.returncode == status
    assert called[1:5] == ["--kill-on-bad-exit=1", "distill-jax", "train", "svamp"]
    assert (called[-2:] == ["requeue", "17"]) == requeued


def test_slurm_directives_come_first():
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    last = max(n for n, line in enumerate(lines) if line.startswith("#SBATCH --"))
    assert all(line.startswith("#") for line in lines[:last])  # sbatch stops reading at the first command


def test_the_job_set_describes_a_run_that_we_can_join():
    job_set = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    assert (job_set["apiVersion"], job_set["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (workers,) = job_set["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value", "0") for entry in container["env"]}
    cluster = detect(environment)
    assert cluster.arguments["num_processes"] == job["completions"] == job["parallelism"]
    host, _, port = environment["COORDINATOR_ADDRESS"].partition(":")
    name = job_set["metadata"]["name"]
    assert host == f"{name}-{workers['name']}-0-0.{name}"  # pod 0, at the service of the set
    assert container["ports"] == [{"containerPort": int(port)}]
    chips = container["resources"]["limits"]["google.com/tpu"] * job["completions"]
    topology = job["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    assert eval(topology.replace("x", "*")) == chips
