"""An option is said once: its flag, macro, help, check, JSON and docs row follow from its field."""

import ast
import dataclasses
import json
import pathlib
import re

import pytest

from distill_jax import config
from distill_jax.config import docs, flags
from distill_jax.config.options import REQUIRED, Options, macro_of, option
from distill_jax.data import schema, views
from distill_jax.errors import UserError
from distill_jax.models.families import FAMILIES
from distill_jax.scoring import uncertainty

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
TASK = {"mixture_or_task_name": "svamp", "model_dir": "run"}


class WithNewOption(config.TrainConfig):
    """Train a student"""

    warm_restarts: int = option(2, "restarts of the schedule", flags=("restarts",), minimum=0, identity=True)


def parsed(cls, *argv):
    parser = flags.Parser(prog="distill-jax x", options=cls)
    args = parser.parse_args(list(argv))
    args.options = cls
    return flags.configuration(args)


def test_a_new_field_is_flag_macro_help_check_identity_and_docs_row(tmp_path):
    common = ["svamp", "--model-dir", "run"]
    assert parsed(WithNewOption, *common, "--restarts", "5").warm_restarts == 5
    assert parsed(WithNewOption, *common, "--warm-restarts=5").warm_restarts == 5
    assert parsed(WithNewOption, *common, "--gin.WARM_RESTARTS=5").warm_restarts == 5
    (tmp_path / "own.gin").write_text("WARM_RESTARTS = 7\n")
    assert parsed(WithNewOption, *common, f"--gin_file={tmp_path}/own.gin").warm_restarts == 7
    help_text = flags.Parser(options=WithNewOption).format_help()
    # From Python 3.13 on the value is named once.
    assert re.search("--restarts( N)?, --warm-restarts N", help_text)
    assert "restarts of the schedule (default 2)" in help_text
    (row,) = [line for line in docs.rows(WithNewOption) if "warm_restarts" in line]
    assert row.startswith("| `--restarts`, `--warm-restarts` | `WARM_RESTARTS` | `warm_restarts` |")
    with pytest.raises(UserError, match=r"^--restarts \(WARM_RESTARTS\): expected .* at least 0"):
        WithNewOption(**TASK, warm_restarts=-1)
    made = WithNewOption(**TASK, warm_restarts=3)
    assert made.identity()["warm_restarts"] == 3
    assert WithNewOption.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("cls", config.COMMANDS.values())
def test_names_are_unique_in_a_command(cls):
    fields = cls.options().values()
    names = [name for field in fields for name in flags.flags_of(field)]
    assert len(names) == len(set(names))
    assert len(cls.by_macro()) == len(fields)
    assert all(field.metadata["option"].help for field in fields)


@pytest.mark.parametrize("cls", config.COMMANDS.values())
def test_defaults_pass_their_own_checks_and_survive_json(cls):
    required = {"str": "x", "int": 8, "tuple": ("x",)}
    values = {
        name: required[field.type.__name__]
        for name, field in cls.options().items()
        if field.default is REQUIRED and name != "to"
    }
    values |= {"to": "t5x"} if cls is config.ConvertConfig else {}
    values |= {"mixture_or_task_name": "svamp"} if cls is config.TrainConfig else {}
    values |= {"task": "svamp"} if cls is config.PretrainConfig else {}
    values |= {"devices": 8} if cls is config.PlanConfig else {}
    values |= {"shell": "zsh"} if cls is config.CompletionConfig else {}
    made = cls(**values)
    assert cls.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--steps", "1e1"],
            r"--steps \(TRAIN_STEPS\): expected a whole number of at least 1 or None, got '1e1'",
        ),
        (["--gin.TRAIN_STEPS=1e1"], "expected a whole number"),
        (["--steps", "0"], "of at least 1 or None, got 0"),
        (["--steps", "-3"], "of at least 1 or None, got -3"),
        (["--steps", "²"], "got '²'"),
        (["--steps", "9" * 400], "expected a whole number of at least 1 or None, got 999"),
        (["--learning-rate", "9" * 400], "LEARNING_RATE"),
        (["--seed", "4294967296"], "RANDOM_SEED.*up to 4294967295, got 4294967296"),
        (["--gin.LOG_PERIOD=0"], "LOG_PERIOD"),
        (["--learning-rate", "nan"], "LEARNING_RATE"),
        (["--dropout-rate", "1"], "below 1"),
        (["--data-fraction", "0"], "above 0"),
        (["--divergence", "foward_kl"], "did you mean forward_kl"),
        (["--lengths", "512"], "inputs=N,targets=N or N,N"),
        (["--lengths", "512,x"], "TASK_FEATURE_LENGTHS"),
        (["--mesh", "data=two"], "MESH"),
        (["--mesh", "data=2,data=3"], "MESH"),
        (["--gin.PACK=maybe"], "PACK"),
        (["--gin.LERNING_RATE=1"], "did you mean LEARNING_RATE"),
        (["--gin.trainer.train.seed=1"], "only T5X does"),
        (["--gin.LEARNING_RATE=@schedules.constant()"], "expected a number"),
        (["--data", "own.csv"], "not both"),
    ],
)
def test_values_of_another_kind_or_range_give_one_line(given, message):
    with pytest.raises(UserError, match=message) as error:
        parsed(config.TrainConfig, "svamp", "--model-dir", "run", *given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["7", "None", "1e3", "True", "2026_11_25", "-x", "{a}", "a b"])
def test_a_folder_may_have_any_name(name):
    for given in (["--model-dir", name], [f"--gin.MODEL_DIR={name}"], ["--gin.MODEL_DIR", name]):
        assert parsed(config.TrainConfig, "svamp", *given).model_dir == name
    assert parsed(config.EvalConfig, name if name != "-x" else f"--gin.MODEL_DIR={name}").model_dir == name


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        (["--lengths", "512, 256"], "task_feature_lengths", {"inputs": 512, "targets": 256}),
        (["--lengths", "targets=5,inputs=6"], "task_feature_lengths", {"inputs": 6, "targets": 5}),
        (
            ["--gin.TASK_FEATURE_LENGTHS={'inputs': 3, 'targets': 2}"],
            "task_feature_lengths",
            {"inputs": 3, "targets": 2},
        ),
        (["--mesh", "data=8, fsdp=2"], "mesh", {"data": 8, "fsdp": 2}),
        (["--gin.MESH=None"], "mesh", None),
        (["--classes", "-1, 0,1"], "classes", ("-1", "0", "1")),
        (["--id", "-x"], "column_id", "-x"),
        (["--label", "-score"], "column_label", "-score"),
        (["--no-pack"], "pack", False),
        (["--gin.PACK=False"], "pack", False),
        (["--learning-rate", "1e-3"], "learning_rate", 1e-3),
        (["--learning-rate", "1"], "learning_rate", 1.0),
        (["--keep-checkpoints", "None"], "keep_checkpoints", None),
        (["--gin.SCHEDULE=@schedules.constant()"], "schedule", "constant"),
        (["--gin.MLP_ACTIVATIONS=('relu',)"], "mlp_activations", ("relu",)),
        (["--gin.DATA_DIR='/tmp/a'"], "data_dir", "/tmp/a"),
        (["--gin.DATA_DIR=None"], "data_dir", None),
        (["--data-dir", "None"], "data_dir", "None"),
        (["--gin.WARMUP_STEPS=%LOG_PERIOD", "--gin.LOG_PERIOD=5"], "warmup_steps", 5),
        (["--gin.PARTITIONING=(('mlp', 'model'),)"], "partitioning", (("mlp", "model"),)),
        (["--model", "tiny"], "emb_dim", 128),
        (["--model", "byt5/base"], "vocabulary", "bytes"),
    ],
)
def test_values(given, name, value):
    assert getattr(parsed(config.TrainConfig, "svamp", "--model-dir", "run", *given), name) == value


def test_later_sources_count_more(tmp_path):
    (tmp_path / "a.gin").write_text("EMB_DIM = 2\nNUM_HEADS = 2\nHEAD_DIM = 2\n")
    (tmp_path / "config.json").write_text(json.dumps({**TASK, "emb_dim": 1, "mlp_dim": 1, "train_steps": 9}))
    given = ["--config", str(tmp_path), "--model", "tiny", "--gin_file", str(tmp_path / "a.gin")]
    made = parsed(config.TrainConfig, *given, "--gin.NUM_HEADS=3", "--gin.HEAD_DIM=3", "--head-dim", "4")
    assert (made.train_steps, made.mlp_dim, made.emb_dim, made.num_heads, made.head_dim) == (9, 256, 2, 3, 4)


def test_the_method_is_in_the_name_or_beside_it():
    def made(**values):
        return config.TrainConfig(model_dir="run", **values)

    assert made(mixture_or_task_name="svamp").mixture == "svamp_step_by_step"
    assert made(mixture_or_task_name="svamp", method="standard").mixture == "svamp_standard"
    full = made(mixture_or_task_name="svamp_step_by_step_shared")
    assert (full.method_name, full.mixture) == ("step_by_step_shared", "svamp_step_by_step_shared")
    assert made(mixture_or_task_name="svamp_label_teacher").mixture == "svamp_label_teacher"
    same = (made(mixture_or_task_name="a_standard"), made(mixture_or_task_name="a", method="standard"))
    assert same[0].identity() == same[1].identity()
    with pytest.raises(UserError, match="take the recipe of the same method"):
        made(mixture_or_task_name="svamp_standard", method="soft_labels")


def test_python_gets_the_same_checks():
    with pytest.raises(UserError, match=r"--batch-size \(BATCH_SIZE\)"):
        config.TrainConfig(**TASK, batch_size=2.5)
    with pytest.raises(UserError, match=r"--pack \(PACK\)"):
        config.TrainConfig(**TASK, pack=1)
    with pytest.raises(UserError, match="no value for MODEL_DIR"):
        config.EvalConfig()
    assert config.TrainConfig(**TASK | {"model_dir": pathlib.Path("a")}).model_dir == "a"
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Decoding().top_k = 3


def test_the_defaults_are_those_of_t5_1_1_small():
    assert config.build(config.ModelOptions, config.Sources(model="small")) == config.ModelOptions()


def test_choices_are_those_of_the_code():
    from distill_jax.config import data

    assert data.FIELDS == schema.FIELDS and data.METHODS == views.METHODS
    fields = {field.name for cls, _ in FAMILIES.values() for field in dataclasses.fields(cls)}
    assert set(config.ModelOptions.options()) == {"model_family", *fields}
    assert config.ModelOptions.options()["model_family"].metadata["option"].choices == tuple(FAMILIES)
    measures = config.SelectConfig.options()["measure"].metadata["option"].choices
    assert set(measures) == {*uncertainty.MEASURES, uncertainty.LOG_PROB}
    assert all(f"column_{name}" in config.TrainConfig.options() for name in schema.FIELDS)


def test_the_page_of_options_is_up_to_date():
    path = pathlib.Path(__file__).parents[2] / "docs/options.md"
    assert path.read_text(encoding="utf-8") == docs.page(), "run: distill-jax options > docs/options.md"


def test_messages_have_the_names_of_options_from_their_fields():
    """No text of ours names a macro: `Options.named` gives the flag and the macro. T5X has macros alone."""
    macros = {name for cls in config.COMMANDS.values() for name in cls.by_macro() if "_" in name}
    macro = re.compile(rf"\b({'|'.join(macros | {'MESH', 'PARTITIONING'})})\b")
    root = pathlib.Path(__file__).parents[2]
    files = [*root.glob("distill_jax/**/*.py"), *root.glob("tasks/*.py")]
    own = [path for path in files if path.relative_to(root).parts[1] not in ("config", "t5x")]
    assert len(own) > 100
    for path in own:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if hasattr(node, "body") and isinstance(node, DOCUMENTED)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs:
                assert not macro.search(node.value), f"{path}, line {node.lineno}: {node.value!r}"


def test_an_option_is_named_by_flag_and_macro():
    assert config.TrainConfig.named("initial_checkpoint_path") == "--init (INITIAL_CHECKPOINT_PATH)"
    assert config.TrainConfig.named("mixture_or_task_name") == "TASK (MIXTURE_OR_TASK_NAME)"
    assert config.EvalConfig.named("model_dir") == "MODEL_DIR"


def test_t5xs_names_stay():
    names = set(config.TrainConfig.by_macro())
    t5x = "MODEL_DIR MIXTURE_OR_TASK_NAME MIXTURE_OR_TASK_MODULE TASK_FEATURE_LENGTHS TRAIN_STEPS BATCH_SIZE"
    ours = "ALPHA DATA_FRACTION LABEL_SOURCE INITIAL_CHECKPOINT_PATH DROPOUT_RATE RANDOM_SEED EVAL_PERIOD"
    assert set(f"{t5x} {ours}".split()) <= names
    assert "CHECKPOINT_STEP" in config.EvalConfig.by_macro()
    assert macro_of(Options.options().get("x", config.InferConfig.options()["input"])) == "INPUT"


@pytest.mark.parametrize("given", [{"model_dir": "a\0b"}, {"data": "\0"}, {"classes": ("yes", "n\0")}])
def test_a_text_with_a_null_which_only_a_file_can_have_is_refused(given):
    with pytest.raises(UserError, match=r"got .*\\x00"):
        config.TrainConfig.from_json({"model_dir": "run"} | given)
