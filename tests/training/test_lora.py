"""Whole runs that train adapters of low rank on a base model."""

import json
import shutil

import jax
import numpy as np
import pytest

from distill_jax.checkpoints import reading
from distill_jax.checkpoints.convert import convert
from distill_jax.checkpoints.orbax_trees import names_in
from distill_jax.checkpoints.other_formats.parameters import fingerprint, to_tree
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.cli import main as cli
from distill_jax.config import ConvertConfig, EvalConfig, TrainConfig
from distill_jax.errors import UserError
from distill_jax.evaluation.evaluator import make_evaluator
from distill_jax.evaluation.run import evaluate_run
from distill_jax.training import trainer

COLUMNS = {"column_input": "question", "column_label": "answer", "column_rationale": "why"}
SHAPE = {
    "emb_dim": 16,
    "num_heads": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 1,
    "head_dim": 8,
    "mlp_dim": 32,
    "vocab_size": 384,
}
LORA = {"lora_rank": 2, "lora_alpha": 8.0, "learning_rate": 1e-2}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def config_of(data, folder, method="step_by_step", **changes):
    options = {
        **SHAPE,
        **COLUMNS,
        "data": data,
        "model_dir": str(folder),
        "method": method,
        "vocabulary": "bytes",
        "task_feature_lengths": {"inputs": 96, "targets": 64},
        "batch_size": 2,
        "train_steps": 3,
        "schedule": "constant",
        "eval_period": 0,
        "checkpoint_period": 2,
        "log_period": 1,
    }
    return TrainConfig(**options | changes)


def train(*arguments, **changes):
    return trainer.train(config_of(*arguments, **changes))


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    train(data, folder, train_steps=1)
    return str(folder)


@pytest.fixture(scope="module")
def adapted(data, base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    config = config_of(data, folder, initial_checkpoint_path=base, eval_period=3, **LORA)
    trainer.train(config, evaluator=make_evaluator)
    return folder


def first_loss(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["train/loss"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["step_by_step_shared", "soft_labels", "logit_distillation"])
def test_a_run_of_each_objective_resumes_bit_by_bit(method, data, base, tmp_path):
    options = {"initial_checkpoint_path": base, **LORA}
    options |= {"scan_layers": True, "microbatches": 2} if method.startswith("step") else {}
    if method == "logit_distillation":
        options["teacher_checkpoint_path"] = base
    train(data, tmp_path / "whole", method, **options)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts/checkpoints/3")
    train(data, tmp_path / "parts", method, **options)
    whole, parts = (reading.restore_params(str(tmp_path / name)) for name in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    before = to_tree(open_checkpoint(base).parameters, bool(options.get("scan_layers")))
    changed = jax.tree.leaves_with_path(jax.tree.map(lambda a, b: bool((a != b).any()), before, whole))
    names = {jax.tree_util.keystr(path, simple=True, separator="/") for path, differs in changed if differs}
    assert names == {n for n in _names(before) if n.endswith("kernel") and "layers" in n}


def _names(tree):
    return [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(tree)
    ]


def test_the_first_step_is_the_bases_and_the_checkpoint_holds_the_adapters_alone(data, base, adapted, tmp_path):
    train(data, tmp_path / "full", initial_checkpoint_path=base, train_steps=1)
    assert first_loss(adapted) == first_loss(tmp_path / "full")
    names = names_in(adapted / "checkpoints/3/state")
    arrays = [name for name in names if name.startswith("params/") or "/mu/" in name or "/nu/" in name]
    # 2 + 1 layers: 4 attention kernels (8 in the decoder) and 3 of the feed-forward, two arrays of each
    assert len(arrays) == 3 * 2 * (2 * (4 + 3) + (8 + 3))
    assert all(name.endswith(("lora_a", "lora_b")) for name in arrays)
    described = json.loads((adapted / "run.json").read_text())["lora"]
    identity = {"base": base, "fingerprint": fingerprint(open_checkpoint(base).parameters)}
    assert described == {"rank": 2, "alpha": 8.0, "targets": ["attention", "mlp"], **identity}


def test_eval_and_convert_take_the_merged_student(adapted, tmp_path):
    results = [evaluate_run(EvalConfig(model_dir=str(adapted), split="validation", batch_size=8)).results[0]]
    scores = json.loads((adapted / "metrics.jsonl").read_text().splitlines()[-1])
    assert scores["validation/label_accuracy"] == results[0]["label_accuracy"]
    convert(ConvertConfig(source=str(adapted), destination=str(tmp_path / "out"), to="distill-jax"))
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["lora"] is None
    merged, plain = (open_checkpoint(str(path)).parameters for path in (adapted, tmp_path / "out"))
    for name, parameter in plain.items():
        np.testing.assert_array_equal(parameter.read(), merged[name].read(), err_msg=name)
    results.append(evaluate_run(EvalConfig(model_dir=str(tmp_path / "out"), split="validation")).results[0])
    assert results[0]["label_accuracy"] == results[1]["label_accuracy"]


def test_another_base_is_refused_by_name(data, base, adapted, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    shutil.copytree(adapted, tmp_path / "run")
    described = json.loads((tmp_path / "run/run.json").read_text())
    described["lora"]["base"] = str(tmp_path / "base")
    (tmp_path / "run/run.json").write_text(json.dumps(described))
    assert open_checkpoint(str(tmp_path / "run")).step == 3  # its place is no part of what it is
    train(data, tmp_path / "other", train_steps=1, seed=1)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(
        UserError, match=f"adapters of the model {tmp_path}/base, which cannot be loaded .*run.json"
    ):
        open_checkpoint(str(tmp_path / "run"))
    shutil.copytree(tmp_path / "other", tmp_path / "base")
    with pytest.raises(UserError, match=f"the model {tmp_path}/base of the fingerprint .* another model"):
        open_checkpoint(str(tmp_path / "run"))
    options = {"initial_checkpoint_path": str(tmp_path / "other"), "eval_period": 3, **LORA}
    with pytest.raises(
        UserError, match="holds a different run .*initial_checkpoint_path.*lora.fingerprint was"
    ):
        train(data, adapted, **options)
    options["initial_checkpoint_path"] = base
    with pytest.raises(UserError, match="lora_rank was 2, now 3"):
        train(data, adapted, **options | {"lora_rank": 3})


def test_adapters_of_nothing_are_refused(data, tmp_path):
    with pytest.raises(UserError, match=r"--lora-rank \(LORA_RANK\) 2: adapters need a trained model .*--init"):
        train(data, tmp_path / "run", **LORA)


def test_the_options_are_flags(data, base, tmp_path, capsys):
    command = ["train", "--data", data, "--input", "question", "--label", "answer", "--rationale", "why"]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in SHAPE.items()]
    command += ["--vocabulary", "bytes", "--lengths", "96,64", "--batch-size", "2", "--steps", "1"]
    command += ["--init", base, "--model-dir", str(tmp_path / "run"), "--eval-period", "0"]
    assert cli.main([*command, "--lora-rank", "2", "--lora-targets", "attention,nothing"]) == 1
    assert "error: --lora-targets (LORA_TARGETS) 'nothing': no kernel" in capsys.readouterr().err
