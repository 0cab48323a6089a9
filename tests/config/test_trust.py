"""What a configuration of somebody else may not decide alone; each attack leaves a mark where it succeeds."""

import json
import sys

import pytest

from distill_jax.cli import main
from distill_jax.config import AnnotateConfig, PretrainConfig, Sources, TrainConfig, build
from distill_jax.config.trust import runs_code
from distill_jax.errors import UserError
from distill_jax.experiments.sweep import grid
from distill_jax.tasks.resolve import resolve

MODULE = "--module (MIXTURE_OR_TASK_MODULE) 'stranger', whose import runs its code: give --trust"


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module that can be imported, and leaves a file when it is."""
    code = "import pathlib\npathlib.Path(__file__).with_name('mark').touch()\n"
    code += "from distill_jax.tasks.registry import register_distillation_task\n"
    code += "from distill_jax.data.sources import GeneratedSource\n"
    code += "register_distillation_task('odd', GeneratedSource(lambda r, n: None, {'train': 1}))\n"
    (tmp_path / "stranger.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "mark"
    sys.modules.pop("stranger", None)


def files_of(folder):
    """A saved configuration and a gin file, both of which name the module."""
    (folder / "config.json").write_text(json.dumps({"mixture_or_task_name": "odd", "module": "stranger"}))
    (folder / "run.gin").write_text("MIXTURE_OR_TASK_MODULE = 'stranger'\n")
    return {"config": str(folder)}, {"gin_files": [str(folder / "run.gin")]}


@pytest.mark.parametrize("kind", [0, 1])
def test_a_module_that_a_file_names_is_not_imported(stranger, tmp_path, kind):
    source, task = files_of(tmp_path)[kind], {"mixture_or_task_name": "odd"}
    with pytest.raises(UserError) as error:
        resolve(build(TrainConfig, Sources(**source), task))
    assert MODULE in str(error.value) and str(tmp_path) in str(error.value) and not stranger.exists()
    for given in ({"trust": True}, {"module": "stranger"}):
        assert build(TrainConfig, Sources(**source), task | given).module == "stranger"
    trusted = Sources(**source, gin_bindings=[("TRUST", "True")])
    assert resolve(build(TrainConfig, trusted, task)).task.name == "odd" and stranger.exists()


def test_a_file_cannot_trust_itself(stranger, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"trust": True, "module": "stranger"}))
    with pytest.raises(UserError, match="stranger"):
        build(TrainConfig, Sources(config=str(tmp_path)))
    (tmp_path / "run.gin").write_text("TRUST = True\n")
    with pytest.raises(UserError, match=r"run.gin, line 1: --trust \(TRUST\) True, which a file cannot say"):
        build(TrainConfig, Sources(gin_files=[str(tmp_path / "run.gin")]))


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (AnnotateConfig, {"base_url": "http://else.where/v1"}),
        (AnnotateConfig, {"api_key_env": "SECRET"}),
        (TrainConfig, {"mlflow": "http://else.where"}),
        (PretrainConfig, {"module": "stranger"}),
    ],
)
def test_where_data_and_keys_are_sent_is_not_a_files_to_say(tmp_path, cls, values):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=f"--config .*: --.*{next(iter(values.values()))}.*give --trust"):
        build(cls, Sources(config=str(tmp_path)))


@pytest.mark.parametrize(
    "more", [{"train": {"module": "stranger"}}, {"models": {"a": {"module": "stranger"}}}, {"by_method": 0}]
)
def test_a_sweep_imports_nothing_that_its_file_names(stranger, tmp_path, more):
    if "by_method" in more:
        more = {"by_method": {"standard": {"module": "stranger"}}}
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps({"methods": ["standard"], "task": "odd", **more}))
    with pytest.raises(UserError) as error:
        grid.read(str(path))
    assert MODULE in str(error.value) and str(path) in str(error.value) and not stranger.exists()
    if "train" in more:
        [cell] = grid.read(str(path), trust=True).cells
        assert cell.config().module == "stranger" and cell.config().trust


def test_only_what_registers_tasks_is_ours():
    assert not runs_code("distill_jax.tasks.svamp") and not runs_code("distill_jax.t5x.tasks")
    assert not runs_code("json")  # imported already: nothing runs
    for name in ("distill_jax.cli.__main__", "distill_jax.tasks_of_mine", "this"):
        assert runs_code(name)


def test_the_command_line_says_it_in_one_line(stranger, tmp_path, capsys):
    files_of(tmp_path)
    assert main.main(["prepare", "--config", str(tmp_path)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --config") and MODULE in line and not stranger.exists()
