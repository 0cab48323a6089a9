import gin
import pytest

from distill_jax import gin_utils
from distill_jax.errors import UserError

CONFIG = """
from __gin__ import dynamic_registration
from distill_jax.training import schedules
MODEL_DIR = %gin.REQUIRED
LEARNING_RATE = 0.1
schedules.constant.learning_rate = %LEARNING_RATE
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run.gin").write_text(CONFIG)
    yield tmp_path
    gin.clear_config()


def parse(folder, *flags):
    gin_utils.parse([f"--gin_search_paths={folder}", "--gin_file=run.gin", *flags])


def test_overrides_bind_macros_and_parameters(folder):
    parse(folder, "--gin.MODEL_DIR='/tmp/a'", "--gin.schedules.constant.warmup_steps=7")
    assert gin.query_parameter("MODEL_DIR/gin.macro.value") == "/tmp/a"
    assert gin.query_parameter("schedules.constant.warmup_steps") == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [("/tmp/a-b", "/tmp/a-b"), ("1e-3", 1e-3), ("{'inputs': 3}", {"inputs": 3}), ("None", None)],
)
def test_what_is_no_gin_literal_is_a_string(folder, text, value):
    parse(folder, f"--gin.MODEL_DIR={text}")
    assert gin.query_parameter("MODEL_DIR/gin.macro.value") == value


def test_the_value_may_be_the_next_word(folder):
    parse(folder, "--gin.MODEL_DIR", "/tmp/a")
    assert gin.query_parameter("MODEL_DIR/gin.macro.value") == "/tmp/a"


def test_the_written_config_reads_back(folder):
    parse(folder, "--gin.MODEL_DIR=/tmp/a", "--gin.LEARNING_RATE=0.5")
    gin_utils.write_config(str(folder))
    gin_utils.parse([f"--gin_file={folder}/config.gin"])
    assert gin.query_parameter("LEARNING_RATE/gin.macro.value") == 0.5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no value for MODEL_DIR: pass --gin.MODEL_DIR=VALUE"),
        (["--gin.MODEL_DIIR=x"], "did you mean MODEL_DIR"),
        (["--gin.schedules.constant.rate=1"], "doesn't have a parameter named 'rate'"),
        (["--gin.nothing.rate=1"], "No configurable matching 'nothing'"),
        (["--gin_file=none.gin"], "none.gin"),
        (["--steps=3"], "unknown flag '--steps=3'"),
        (["--gin.MODEL_DIR"], "needs a value"),
    ],
)
def test_mistakes_give_one_clear_line(folder, flags, message):
    with pytest.raises(UserError) as error:
        parse(folder, *flags)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_config_file_is_required():
    with pytest.raises(UserError, match="no --gin_file given"):
        gin_utils.parse([])
