"""Misspelled and misplaced flags and macros are refused by name, in every command."""

import json

import pytest

from distill_jax.cli import main as cli
from distill_jax.config import COMMANDS
from distill_jax.config.flags import ELSEWHERE, all_flags, flags_of


def fails(capsys, *argv):
    """The one line of a command that must fail."""
    try:
        status = cli.main(list(argv))
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_misspelled_flags_and_macros(capsys, command):
    cls, words = COMMANDS[command], command.split()
    flags = [flag for field in reversed(cls.options().values()) for flag in flags_of(field)]
    name = flags[0] if flags else "--config"
    assert f"{name}s" in (line := fails(capsys, *words, f"{name}s", "1")) and "has no flag" in line
    assert "no flag --no-such-flag" in fails(capsys, *words, "--no-such-flag=1")
    macro = list(cls.by_macro())[-1]
    line = fails(capsys, *words, f"--gin.{macro}X=1")
    assert f"--gin.{macro}X: no option is called {macro}X; did you mean {macro}?" in line
    entries = [field.metadata["option"] for field in cls.options().values()]
    if not any(entry.positional and entry.repeat for entry in entries):  # that takes any number of words
        assert "one argument too many" in fails(capsys, *words, "a", "b", "c", "d")
    valued = next(
        (flags_of(field)[0] for field in cls.options().values() if flags_of(field) and field.type is not bool),
        "--config",
    )
    assert f"{valued} needs a value" in fails(capsys, *words, valued)


def test_a_long_list_of_names_is_not_printed(capsys):
    line = fails(capsys, "train", "svamp", "--qqqqq", "1")
    assert line == "error: distill-jax train has no flag --qqqqq; see distill-jax train --help"
    assert fails(capsys, "train", "svamp", "--gin.QQQQQ=1").endswith("called QQQQQ; see distill-jax options")
    assert "there are: " in fails(capsys, "models", "--qqqqq", "1")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train svamp --lr 1e-3", "has no flag --lr; did you mean --learning-rate?"),
        ("train svamp -lr=1e-3", "has no flag -lr; did you mean --learning-rate?"),
        ("eval run --bs 4", "has no flag --bs; did you mean --batch-size?"),
        ("train svamp --output_dir r", "has no flag --output_dir; did you mean --model-dir?"),
        ("eval run --lr 4", "has no flag --lr; train, pretrain have --learning-rate"),
        ("train svamp --engine jax", "no flag --engine; annotate, select, eval, infer, serve have --engine"),
        (
            "infer run --classes a,b",
            "no flag --classes; data show, data stats, prepare, annotate, store import, ",
        ),
        ("infer run --choices c", "--choices; did you mean --choices-column? data show, data stats, "),
        ("eval run --lora_rank 4", "no flag --lora_rank; train, pretrain, plan have --lora-rank"),
        ("infer run --model small", ", train, pretrain, plan have --model"),
        ("infer --model-dir run", "no flag --model-dir; MODEL_DIR is given without a flag"),
    ],
)
def test_a_flag_of_another_command_or_of_another_trainer_is_told_of(capsys, words, expected):
    assert expected in fails(capsys, *words.split())


def test_what_other_trainers_call_so_is_a_flag_under_another_name():
    every = set.union(*map(all_flags, COMMANDS.values()))
    assert every.issuperset(f"--{flag}" for flag in ELSEWHERE.values())
    assert every.isdisjoint(f"--{name}" for name in ELSEWHERE)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("evl run", "distill-jax has no command 'evl'; did you mean eval?"),
        ("data", "distill-jax data needs a command; there are: import, list, show, stats"),
        ("data lst", "distill-jax data has no command 'lst'; did you mean list?"),
        ("qqqq", "distill-jax has no command 'qqqq'; there are: annotate, check, compare, "),
        ("train svmap --model-dir r", "unknown task 'svmap': did you mean svamp?"),
        ("annotate svmap --model m --store s", "unknown task 'svmap': did you mean svamp?"),
        ("train svamp --model smal --model-dir r", "--model smal: no such model; did you mean small?"),
        ("plan --model byt5/smal --devices 8", "--model byt5/smal: no such model; did you mean byt5/small?"),
        (
            "train svamp --model t5-small --model-dir r",
            "did you mean t5_1_0/small, which starts from hf://google-t5/t5-small? (--init hf://ORG/NAME gives",
        ),
        (
            "plan --model google/FLAN-T5-base --devices 8",
            "did you mean flan_t5/base, which starts from hf://google/",
        ),
        (
            "plan --model hf://google/mt5 --devices 8",
            "is given by --init hf://ORG/NAME, beside the --model of its",
        ),
        ("train svamp --method step_by_stp --model-dir r", "got 'step_by_stp'; did you mean step_by_step?"),
        ("train svamp --label-source techer --model-dir r", "got 'techer'; did you mean teacher?"),
        ("data import svmp --from hf --data-dir d", "no original of 'svmp' is known: did you mean svamp?"),
        ("plan --device h10 --devices 8 --batch 8 --model small", "figures; did you mean h100?"),
        ("annotate arithmetic --model m --prompt svmp --dry-run", "shipped name; did you mean svamp?"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(capsys, words, expected):
    assert expected in fails(capsys, *words.split())


def test_a_wrong_teacher_is_told_the_nearest(capsys, tmp_path):
    (tmp_path / "svamp/llm").mkdir(parents=True)
    (tmp_path / "svamp/svamp_train.json").write_text('{"input": "x", "label": "( 1.0 + 1.0 )"}\n')
    (tmp_path / "svamp/llm/train_CoT_0.json").write_text("[]")
    line = fails(capsys, "data", "show", "svamp", "--data-dir", str(tmp_path), "--teacher", "lmm")
    assert line.endswith("--teacher lmm: did you mean llm?")


def test_gin_flags_in_both_forms(capsys):
    assert "no such file" in fails(capsys, "train", "--gin_file", "none.gin")
    assert "no such file" in fails(capsys, "train", "--gin_file=none.gin")
    files = ["--gin_file", "models/t5_1_1/tiny.gin", "--gin_file", "recipes/standard.gin"]
    assert "no value for TASK (MIXTURE_OR_TASK_NAME)" in fails(capsys, "train", *files, "--gin.MODEL_DIR=run")
    assert "no option is called VOCAB_SIZE" in fails(
        capsys, "prepare", "svamp", "--gin_file=models/t5_1_1/tiny.gin"
    )


def test_prepare_takes_macros(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "train.csv"
    data.write_text("input,label\n" + "".join(f"{n} and {n},{2 * n}\n" for n in range(20)))
    assert cli.main(["prepare", "--data", str(data), "--method", "standard", "--gin.VOCABULARY=bytes"]) == 0
    (manifest,) = (tmp_path / "cache/prepared").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["vocabulary"] == "bytes"


@pytest.mark.parametrize("name", ["7", "1e3", "None", "True"])
def test_a_folder_keeps_its_name(capsys, name):
    assert f"{name}/run.json: no such file" in fails(capsys, "eval", name)
