"""T5X's own launchers with our gin files: train, evaluate, infer, on SVAMP where it is there."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("t5x", reason="T5X is on no registry: docs/t5x.md tells how it is installed")
pytestmark = pytest.mark.slow  # a process of TensorFlow and T5X for each

GIN = pathlib.Path(__file__).parents[2] / "gin_configs"
SHARED = pathlib.Path(os.environ.get("DISTILL_JAX_SHARED") or pathlib.Path(__file__).parents[3] / "shared")
MODELS = {
    "theirs": ["t5x/examples/t5/t5_1_1/tiny.gin"],
    "ours": ["models/byt5/tiny.gin"],
}


def launch(script, files, tmp_path, **macros):
    """Runs `python -m t5x.<script>`; its output, for a message."""
    if not (SHARED / "datasets").is_dir():
        pytest.skip("no data sets beside the repository")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DISTILL_JAX_DATA_DIR": str(SHARED / "datasets"),
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", f"t5x.{script}", f"--gin_search_paths={GIN}"]
    command += [f"--gin_file={file}" for file in files]
    command += [f"--gin.{name}={value!r}" for name, value in macros.items()]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.parametrize(("method", "network"), [("step_by_step", "theirs"), ("standard", "ours")])
def test_train_evaluate_infer(tmp_path, method, network):
    model = MODELS[network]
    after = ["t5x/our_network.gin"] if network == "ours" else []
    name = f"svamp_{method}"
    common = {
        "MIXTURE_OR_TASK_NAME": name,
        "VOCABULARY": "bytes",
        "TASK_FEATURE_LENGTHS": {"inputs": 352, "targets": 96},
        "BATCH_SIZE": 8,
    }
    run = tmp_path / "run"
    log = launch(
        "train",
        [*model, f"t5x/{method}.gin", *after],
        tmp_path,
        MODEL_DIR=str(run),
        TRAIN_STEPS=4,
        EVAL_PERIOD=4,
        CHECKPOINT_PERIOD=4,
        EVAL_STEPS=1,
        EVALUATOR_NUM_EXAMPLES=8,
        **{"trainer.Trainer.num_microbatches": 2},
        **common,
    )
    assert "using microbatches: 2 microbatches" in log  # T5X's own binding holds for our trainer
    views = ("label", "rationale") if method == "step_by_step" else ("label",)
    assert all(f"{view}_loss=" in log for view in views)
    tasks = {"step_by_step": ["svamp_label", "svamp_rationale"], "standard": [name]}[method]
    for task in tasks:
        (line,) = (run / "inference_eval" / f"{task}-metrics.jsonl").read_text().splitlines()
        assert ("rougeL" if "rationale" in task else "accuracy") in json.loads(line)
    if method == "standard":
        return  # one more launch would show nothing that the other case does not
    checkpoint = {"CHECKPOINT_PATH": str(run / "checkpoint_4"), **common}
    scores = tmp_path / "scores"
    launch(
        "eval",
        [*model, "t5x/eval.gin", *after],
        tmp_path,
        EVAL_OUTPUT_DIR=str(scores),
        SPLIT="validation",
        **checkpoint,
    )
    line = (scores / "inference_eval" / "svamp_label-metrics.jsonl").read_text()
    assert 0.0 <= json.loads(line)["accuracy"] <= 1.0
    launch(
        "infer",
        [*model, "t5x/infer.gin", *after],
        tmp_path,
        INFER_OUTPUT_DIR=str(tmp_path / "said"),
        **(checkpoint | {"MIXTURE_OR_TASK_NAME": "svamp_label"}),
    )
    (output,) = (tmp_path / "said").glob("svamp_label-predict.jsonl-*-of-00001")
    predictions = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(predictions) == 200
    assert predictions[0]["inputs"]["inputs_pretokenized"].startswith("[label] ")
    assert all(isinstance(row["prediction"], str) for row in predictions)
