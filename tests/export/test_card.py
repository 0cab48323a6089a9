"""The folder of an export and what its model card says."""

import json
import re
import sys
import types

import pytest

from distill_jax.cli import main as cli
from distill_jax.config import COMMANDS, ExportConfig
from distill_jax.errors import UserError
from distill_jax.evaluation.significance import share_interval
from distill_jax.export.run import export

yaml = pytest.importorskip("yaml", reason="of the extra teachers")


def card_of(run, tmp_path, **options):
    export(ExportConfig(model_dir=str(run), output=str(tmp_path / "out"), **options))
    return (tmp_path / "out/README.md").read_text()


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_folder_holds_what_is_needed_and_nothing_of_the_machine(evaluated, tmp_path):
    card_of(evaluated, tmp_path)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["max_new_tokens"] == 48 and generation["eos_token_id"] == 1
    assert generation["do_sample"] is False and generation["num_beams"] == 1
    assert json.loads((out / "tokenizer_config.json").read_text())["model_max_length"] == 160
    for path in out.rglob("*"):
        assert str(evaluated.parent).encode() not in path.read_bytes(), path


def test_the_card_has_what_the_run_knows(evaluated, tmp_path):
    card = card_of(evaluated, tmp_path)
    metrics = json.loads((evaluated / "eval/metrics.jsonl").read_text().splitlines()[-1])
    low, high = share_interval(round(metrics["label_accuracy"] * 30), 30)
    row = f"| test | 30 | generated | float32 | label_accuracy | {metrics['label_accuracy']:.4f} |"
    assert f"{row} {low:.4f} to {high:.4f} |" in card
    manifest = json.loads((evaluated / "data.json").read_text())
    run = json.loads((evaluated / "run.json").read_text())
    assert f"`{run['data']}`" in card and f"`{manifest['data']}`" in card and "| examples | 300 |" in card
    assert "| targets of the view rationale | 300 |" in card
    assert "| label | `[label] ` |" in card and "| rationale | `[rationale] ` |" in card
    assert "arXiv:2305.02301" in card and "| alpha | 0.5 |" in card and "| learning_rate | 0.005 |" in card
    assert "`entailment`, `neutral`, `contradiction`" in card
    assert "| started from | random weights |" in card and "| of the model it started from | none" in card
    assert "The teacher's terms of use" in card
    assert front_matter(card) == {
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["distill_jax", "distilling-step-by-step", "t5"],
    }


def test_what_is_not_known_is_said_to_be_so(make_random, tmp_path):
    """A run without settings, data, evaluations and teacher, as a converted one."""
    card = card_of(make_random("byt5", "step_by_step"), tmp_path)
    assert "Of this checkpoint: not recorded." in card
    assert (
        "| fingerprint of the prepared records | not recorded |" in card and "| counts | not recorded |" in card
    )
    assert "Model: not recorded." in card and "Settings: not recorded." in card
    assert "| teacher's requests | not recorded |" in card and "| teacher's price | not recorded |" in card
    assert "None" not in card.replace("None.", "") and "nan" not in card


def test_a_student_of_reference_labels_alone_has_no_teacher(make_random, tmp_path):
    card = card_of(make_random("byt5", "standard"), tmp_path)
    assert "## Teacher\n\nNone." in card and "trained on reference labels alone" in card
    assert "The teacher's terms" not in card


def test_start_data_teacher_and_licence_as_they_are_known(evaluated, tmp_path):
    import shutil

    shutil.copytree(evaluated, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["initial_checkpoint_path"] = "hf://google/flan-t5-small@main"
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    run = json.loads((tmp_path / "run/run.json").read_text())
    run["teacher_name"] = "llm"
    (tmp_path / "run/run.json").write_text(json.dumps(run))
    report = {
        "settings": {"model": "palm-540b", "prompt": "nli@1", "samples": 1},
        "rows": 300,
        "answered": 290,
        "requests": 310,
        "tokens": 40_000,
        "usd": 1.25,
        "accuracy": {"rows": 290, "value": 0.9, "low": 0.86, "high": 0.93},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    options = {"teacher_report": str(tmp_path / "report.json"), "license": "apache-2.0"}
    card = card_of(tmp_path / "run", tmp_path, **options)
    fields = front_matter(card)
    assert (fields["license"], fields["base_model"]) == ("apache-2.0", "google/flan-t5-small")
    assert "| model | `palm-540b` |" in card and "0.9000 of 290 rows, 95% interval 0.8600 to 0.9300" in card
    assert "| teacher's requests | 310 |" in card and "| teacher's price | 1.2500 USD |" in card
    assert "| started from | `hf://google/flan-t5-small@main` |" in card


def test_the_step_and_the_dtype_are_those_asked_for(evaluated, tmp_path):
    from safetensors import safe_open

    card = card_of(evaluated, tmp_path, step=40, dtype="bfloat16")
    assert "exported at step 40" in card and "The weights here are bfloat16" in card
    with safe_open(tmp_path / "out/model.safetensors", "numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}
    with pytest.raises(UserError, match="no checkpoint of step 7"):
        export(ExportConfig(model_dir=str(evaluated), output=str(tmp_path / "other"), step=7))
    with pytest.raises(UserError, match="no checkpoint has a validation score"):
        export(ExportConfig(model_dir=str(evaluated), output=str(tmp_path / "other"), step="best"))
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_exported_is_refused_by_name(make_random, tmp_path):
    run = make_random("t5gemma", "standard")
    for options, message in (
        ({"to": "ctranslate2"}, "a t5gemma cannot be exported to ctranslate2, .*--to huggingface"),
        ({"output": str(tmp_path)}, "is there already: choose another folder with --output"),
        ({"output": "gs://bucket/out"}, "write to a local folder, and give --push"),
        ({"teacher_report": "nowhere.json"}, "nowhere.json: no such file"),
    ):
        with pytest.raises(UserError, match=message):
            export(ExportConfig(**{"model_dir": str(run), "output": str(tmp_path / "out"), **options}))
    with pytest.raises(UserError, match="--dtype int8 is CTranslate2's"):
        ExportConfig(model_dir=str(run), dtype="int8")


def test_without_ctranslate2_the_way_to_get_it_is_said(make_random, tmp_path, monkeypatch):
    for name in ("torch", "transformers"):  # which it needs too
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(
        UserError, match=r"needs ctranslate2: pip install 'distill_jax\[ctranslate2,transformers\]'"
    ):
        card_of(make_random("byt5", "standard"), tmp_path, to="ctranslate2")


def test_the_command(make_random, capsys):
    run = make_random("byt5", "standard")
    assert cli.main(["export", str(run), "--to", "huggingface"]) == 0
    out = capsys.readouterr().out
    assert re.match(rf"step 3, [\d,]+ parameters, float32, for huggingface: {run}/export/huggingface\n", out)
    assert "distill-jax eval RUN --step 3" in out and "licence is to be filled in" in out
    assert (run / "export/huggingface/README.md").exists() and COMMANDS["export"] is ExportConfig
