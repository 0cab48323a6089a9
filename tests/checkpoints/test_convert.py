import dataclasses
import errno
import json

import numpy as np
import pytest

from distill_jax.checkpoints import convert as convert_module
from distill_jax.checkpoints import run_dir
from distill_jax.checkpoints.convert import convert
from distill_jax.checkpoints.other_formats import t5x_legacy
from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
from distill_jax.checkpoints.other_formats.parameters import from_tree
from distill_jax.checkpoints.reading import FORMATS, open_checkpoint
from distill_jax.cli import main as cli
from distill_jax.config import ConvertConfig, EvalConfig, InferConfig
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.decoding.infer import infer_run
from distill_jax.errors import UserError
from distill_jax.evaluation.run import evaluate_run


@pytest.fixture
def student(make_student, tmp_path):
    """A Hugging Face folder, and what is in it."""
    config, params = make_student("UL2", vocab_size=384)
    write_huggingface(tmp_path / "hf", from_tree(params), config)
    return tmp_path, config, params


TASK = {
    "task": "arithmetic_step_by_step",
    "task_feature_lengths": {"inputs": 32, "targets": 8},
    "vocabulary": "bytes",
}


@pytest.mark.parametrize(("kind", "steps"), [("1.0", 4), ("UL2", 6)])
def test_ours_to_t5x_to_hugging_face_to_ours_is_exact(make_student, assert_same, tmp_path, kind, steps):
    config, params = make_student(kind, vocab_size=384)
    write_huggingface(tmp_path / "0", from_tree(params), config)
    chain = [
        ("distill-jax", {**TASK, "scan_layers": True, "step": 6}),
        ("t5x", {}),
        ("huggingface", {"shard_gb": 9e-6}),
        ("distill-jax", {}),
        ("t5x-orbax", {"scan_layers": True, "ocdbt": False}),
        ("t5x", {"scan_layers": True}),
    ]
    for number, (to, options) in enumerate(chain[:steps], 1):
        convert(
            ConvertConfig(
                source=str(tmp_path / str(number - 1)),
                destination=str(tmp_path / str(number)),
                to=to,
                **options,
            )
        )
        checkpoint = open_checkpoint(str(tmp_path / str(number)))
        assert checkpoint.format == to
        assert checkpoint.model_config() == config
        assert checkpoint.vocabulary().fingerprint == "bytes"
        assert_same(checkpoint.parameters, params)
    assert run_dir.load(str(tmp_path / "1")).model["scan_layers"] is True
    first, last = run_dir.load(str(tmp_path / "1")), run_dir.load(str(tmp_path / "4"))
    assert last.mixture_or_task_name == first.mixture_or_task_name == TASK["task"]
    assert last.task_feature_lengths == TASK["task_feature_lengths"]


def test_the_step_goes_along_where_the_format_has_one(student):
    folder, _, _ = student
    convert(ConvertConfig(source=str(folder / "hf"), destination=str(folder / "a"), to="t5x", step=6))
    convert(ConvertConfig(source=str(folder / "a"), destination=str(folder / "b"), to="t5x-orbax"))
    convert(
        ConvertConfig(
            source=str(folder / "b" / "checkpoint_6"), destination=str(folder / "c"), to="distill-jax"
        )
    )
    assert [open_checkpoint(str(folder / name)).step for name in "abc"] == [6, 6, 6]


@pytest.mark.slow
def test_eval_and_infer_take_a_converted_student(student, tmp_path):
    folder, _, _ = student
    convert(ConvertConfig(source=str(folder / "hf"), destination=str(folder / "run"), to="distill-jax", **TASK))
    convert(ConvertConfig(source=str(folder / "run"), destination=str(folder / "t5x"), to="t5x"))
    convert(
        ConvertConfig(
            source=str(folder / "t5x"), destination=str(folder / "again"), to="distill-jax", scan_layers=True
        )
    )
    results = [
        evaluate_run(EvalConfig(model_dir=str(folder / name), eval_examples=3, batch_size=4)).results[0]
        for name in ("run", "again")
    ]
    assert results[0] == results[1] and results[0]["examples"] == 3
    predictions = [(folder / name / "eval" / "test-0.jsonl").read_text() for name in ("run", "again")]
    strip = [
        [{k: v for k, v in json.loads(line).items() if not k.endswith("_score")} for line in text.splitlines()]
        for text in predictions
    ]
    assert strip[0] == strip[1] and len(strip[0]) == 3
    (folder / "in.jsonl").write_text('{"input": "1 + 1"}\n')
    infer_run(
        InferConfig(
            model_dir=str(folder / "again"), input=str(folder / "in.jsonl"), output=str(folder / "out.jsonl")
        )
    )
    assert "predicted_label" in json.loads((folder / "out.jsonl").read_text())


def test_a_run_without_a_task_says_what_to_do(student):
    folder, _, _ = student
    convert(
        ConvertConfig(
            source=str(folder / "hf"), destination=str(folder / "run"), to="distill-jax", vocabulary="bytes"
        )
    )
    with pytest.raises(UserError, match="converted without a task.*--task"):
        evaluate_run(EvalConfig(model_dir=str(folder / "run")))


def test_training_does_not_resume_a_converted_run(student):
    folder, _, _ = student
    convert(ConvertConfig(source=str(folder / "hf"), destination=str(folder / "run"), to="distill-jax", **TASK))
    trained = dataclasses.replace(run_dir.load(str(folder / "run")), data="prepared records")
    with pytest.raises(UserError, match="holds a different run .data was 'converted from huggingface'"):
        run_dir.claim(str(folder / "run"), trained)


def test_a_vocabulary_that_the_embedding_is_too_small_for_is_refused(make_student, tmp_path):
    config, params = make_student()
    write_huggingface(tmp_path / "hf", from_tree(params), config)
    with pytest.raises(UserError, match="token_embedder/embedding has 48 rows, the vocabulary needs 259"):
        convert(
            ConvertConfig(
                source=str(tmp_path / "hf"), destination=str(tmp_path / "out"), to="t5x", vocabulary="bytes"
            )
        )
    assert not (tmp_path / "out").exists()


def test_a_destination_that_is_there_or_remote_is_refused(student):
    folder, _, _ = student
    (folder / "there").mkdir()
    with pytest.raises(UserError, match="there: is there already"):
        convert(ConvertConfig(source=str(folder / "hf"), destination=str(folder / "there"), to="t5x"))
    with pytest.raises(UserError, match="write to a local folder, then copy it"):
        convert(ConvertConfig(source=str(folder / "hf"), destination="gs://bucket/out", to="t5x"))
    with pytest.raises(UserError, match="expected distill-jax or t5x or t5x-orbax or huggingface, got 'onnx'"):
        convert(ConvertConfig(source=str(folder / "hf"), destination=str(folder / "out"), to="onnx"))


@pytest.mark.parametrize("to", ["distill-jax", "t5x", "t5x-orbax", "huggingface"])
def test_a_source_that_breaks_on_the_way_leaves_nothing(make_student, make_legacy, tmp_path, to):
    make_legacy(tmp_path / "checkpoint_3", make_student()[1])
    (tmp_path / "checkpoint_3" / "target.encoder.layers_1.mlp.wo.kernel" / "0.0").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"parameter encoder/layers_1/mlp/wo/kernel \[24, 16\] cannot be read"):
        convert(ConvertConfig(source=str(tmp_path / "checkpoint_3"), destination=str(tmp_path / "out"), to=to))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_3"]


@pytest.mark.parametrize(
    "full", [OSError(errno.ENOSPC, "No space left on device"), ValueError("write: No space left on device")]
)
def test_a_full_disk_is_one_line_and_leaves_nothing(student, monkeypatch, full):
    folder, _, _ = student

    def write(*args, **kwargs):
        raise full

    monkeypatch.setattr(t5x_legacy.ts, "open", write)
    monkeypatch.setattr(convert_module, "write_legacy", write)
    with pytest.raises(UserError, match="no space left on the disk: free some, or choose another folder"):
        convert(ConvertConfig(source=str(folder / "hf"), destination=str(folder / "out"), to="t5x"))
    assert sorted(path.name for path in folder.iterdir()) == ["hf"]


def test_the_command_offers_the_formats_there_are():
    assert ConvertConfig.options()["to"].metadata["option"].choices == tuple(FORMATS)


def test_the_command(student, capsys):
    folder, config, params = student
    assert cli.main(["convert", str(folder / "hf"), str(folder / "out"), "--to", "t5x"]) == 0
    out = capsys.readouterr().out
    assert "parameters, huggingface to t5x" in out and "give --vocabulary" in out
    arguments = ["--to", "distill-jax", "--vocabulary", "bytes", "--task", "arithmetic_step_by_step"]
    assert (
        cli.main(["convert", str(folder / "out"), str(folder / "ours"), "--lengths", "40,9", *arguments]) == 0
    )
    assert "give" not in capsys.readouterr().out
    run = run_dir.load(str(folder / "ours"))
    assert (run.mixture_or_task_name, run.task_feature_lengths) == (arguments[-1], {"inputs": 40, "targets": 9})
    assert load_vocabulary(folder / "ours").fingerprint == "bytes"
    assert cli.main(["convert", str(folder / "nowhere"), str(folder / "x"), "--to", "t5x"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert (
        cli.main(
            ["convert", str(folder / "out"), str(folder / "half"), "--to", "huggingface", "--dtype", "bfloat16"]
        )
        == 0
    )
    found = open_checkpoint(str(folder / "half")).parameters["token_embedder/embedding"].read()
    np.testing.assert_allclose(found, params["token_embedder"]["embedding"], rtol=1e-2)


def test_the_activations_can_be_said(student, make_legacy):
    folder, config, params = student
    make_legacy(folder / "checkpoint_3", params)
    arguments = ["convert", str(folder / "checkpoint_3"), str(folder / "out"), "--to", "huggingface"]
    assert cli.main([*arguments, "--activations", "silu,linear"]) == 0
    assert open_checkpoint(str(folder / "out")).model_config() == config


@pytest.mark.parametrize("to", FORMATS)
def test_a_relative_destination_is_in_the_current_folder(student, assert_same, monkeypatch, to):
    folder, _, params = student
    monkeypatch.chdir(folder)
    convert(ConvertConfig(source="hf", destination="out/here", to=to))
    assert_same(open_checkpoint(str(folder / "out" / "here")).parameters, params)


def test_the_best_checkpoint_is_converted_where_it_is_asked_for(student):
    folder, _, _ = student
    convert(ConvertConfig(source=str(folder / "hf"), destination=str(folder / "run"), to="distill-jax", step=3))
    with pytest.raises(UserError, match="no checkpoint has a validation score"):
        convert(
            ConvertConfig(source=str(folder / "run"), destination=str(folder / "out"), to="t5x", step="best")
        )
    scores = {"metric": "label_accuracy", "mode": "max", "by_step": {"3": 0.5}}
    (folder / "run" / "scores.json").write_text(json.dumps(scores))
    convert(ConvertConfig(source=str(folder / "run"), destination=str(folder / "out"), to="t5x", step="best"))
    assert open_checkpoint(str(folder / "out")).step == 3
    with pytest.raises(UserError, match="step 'best': the source has no steps"):
        convert(
            ConvertConfig(source=str(folder / "hf"), destination=str(folder / "other"), to="t5x", step="best")
        )
