"""A sweep: its file, its cells in this process and in others, killed and resumed, and its table by hand."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import yaml
from filelock import FileLock

import distill_jax
from distill_jax.cli import main as cli
from distill_jax.config import EvalConfig, TrainConfig
from distill_jax.evaluation.run import evaluate_run
from distill_jax.evaluation.significance import mean_interval, share_interval
from distill_jax.experiments.sweep import grid, run, table
from distill_jax.experiments.sweep.results import read_result, take

ROOT = pathlib.Path(__file__).parents[2]
SHAPE = {"emb_dim": 16, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "head_dim": 8}
TRAIN = {"vocabulary": "bytes", "vocab_size": None, "classes": ["no", "yes"], "batch_size": 4, "pack": False}
TRAIN |= {"task_feature_lengths": "48,24", "mlp_dim": 32, "dropout_rate": 0.0, "log_period": 1}


def rows(path, count):
    lines = [
        {
            "id": f"{path.stem}-{n}",
            "input": f"{n} is even",
            "label": "yes" if n % 4 else "no",
            "rationale": f"{n}.",
        }
        for n in range(count)
    ]
    lines = [line | {"teacher_label": "yes"} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """(keys) -> a sweep's file on 12 rows of own data: a student by two methods, two steps."""
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    names = {"data": "train", "validation_data": "validation", "test_data": "test"}
    data = {option: rows(tmp_path / f"{name}.jsonl", 12) for option, name in names.items()}

    def write(**keys):
        path = tmp_path / "sweep.yaml"
        found = {"methods": ["standard", "step_by_step"], "models": {"mini": SHAPE}, "steps": 2}
        found |= {"train": TRAIN | data, **keys}
        found = {key: value for key, value in found.items() if value is not None}
        path.write_text(yaml.safe_dump(found, sort_keys=False))
        return str(path)

    return write


def sweep(path, *flags):
    return cli.main(["sweep", path, "--output", str(pathlib.Path(path).parent / "out"), *flags])


def results_of(path):
    return json.loads((pathlib.Path(path).parent / "out" / "results.json").read_text())


def test_the_order_is_that_of_the_file_and_a_cell_that_comes_twice_runs_once(write):
    keys = {"grids": [{"fractions": [0.5, 1], "seeds": [3, 1], "methods": ["standard"]}, {"seeds": [1]}]}
    found = [each.config() for each in grid.read(write(**keys)).cells]
    places = [(each.data_fraction, each.seed, each.method_name) for each in found]
    expected = [(share, seed, "standard") for share in (0.5, 1.0) for seed in (3, 1)]
    assert places == [*expected, (1.0, 1, "step_by_step")]


def test_a_name_says_what_the_cell_is_and_depends_on_its_content_alone(write):
    def names(**keys):
        return [each.name for each in grid.read(write(**keys)).cells]

    train = yaml.safe_load(pathlib.Path(write()).read_text())["train"]
    before = names(fractions=[0.25], label_sources=["teacher"])
    assert before[1].startswith("step_by_step-mini-0.25-teacher-seed0-") and len(set(before)) == 2
    first = names()
    assert names(train=train | {"log_period": 5, "checkpoint_period": 7, "check_memory": False}) == first
    assert names(search={"learning_rate": [1, 2]}) == first  # decides which runs a cell has
    assert set(names(train=train | {"learning_rate": 0.5})).isdisjoint(first)
    assert names(train=train | {"learning_rate": "5e-1"}) == names(train=train | {"learning_rate": 0.5})
    assert set(names(steps=3)).isdisjoint(first)


def test_a_method_searches_what_it_has(write):
    search = {"learning_rate": ["1e-3", 1], "alpha": [0.25, 0.5]}
    standard, step_by_step = grid.read(write(search=search)).cells
    assert standard.points() == [{"learning_rate": 0.001}, {"learning_rate": 1.0}]
    assert len(step_by_step.points()) == 4
    assert step_by_step.points()[1] == {"learning_rate": 0.001, "alpha": 0.5}


def test_steps_by_share_and_options_by_model_and_method(write):
    by_method = {"step_by_step": {"batch_size": 2}}
    models = {"mini": SHAPE, "other": {"model": "byt5/tiny", "emb_dim": 32}}
    keys = {"steps": {0.5: 3, 1.0: 7}, "fractions": [0.5, 1.0], "by_method": by_method, "models": models}
    found = [each.config() for each in grid.read(write(**keys)).cells]
    steps = {(each.data_fraction, each.train_steps) for each in found}
    assert steps == {(0.5, 3), (1.0, 7)}
    assert {(each.method_name, each.batch_size) for each in found} == {("standard", 4), ("step_by_step", 2)}
    assert {each.emb_dim for each in found} == {16, 32}


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"fraction": [0.5]}, "no key 'fraction': did you mean fractions?"),
        ({"methods": ["step_by_steps"]}, "got 'step_by_steps'; did you mean step_by_step?"),
        ({"models": ["t5_1_1/smal"]}, "models: no model 't5_1_1/smal': did you mean t5_1_1/small?"),
        ({"models": {"a": {"emb": 3}}}, "models, a: no option 'emb'"),
        ({"train": {"batchsize": 3}}, "train: no option 'batchsize': did you mean batch_size?"),
        (
            {"by_method": {"standart": {}}},
            "by_method: 'standart' is not among the methods: did you mean standard?",
        ),
        (
            {"grids": [{"by_method": {"step_by_step_shared": {}}}, {"methods": ["single_task"]}]},
            "by_method: 'step_by_step_shared' is not among the methods: did you mean step_by_step?",
        ),
        (
            {"search": {"learning_rates": [1]}},
            "search: no option 'learning_rates': did you mean learning_rate?",
        ),
        (
            {"search": {"alpha": [0.5]}, "by_method": {"standard": {"alpha": 0.1}}},
            "by_method, standard: alpha is searched too",
        ),
        ({"search": {"learning_rate": 1}}, "search: learning_rate: expected a list of values, got 1"),
        ({"task": "entailmnt", "train": {}}, "unknown task 'entailmnt': did you mean entailment?"),
        ({"eval": {"label_bye": "rank"}}, "eval: no option 'label_bye': did you mean label_by?"),
        ({"fractions": [1.5]}, "DATA_FRACTION): expected a number above 0 and up to 1, got 1.5"),
        ({"seeds": 3}, "seeds: expected a list, got 3"),
        ({"steps": {0.5: 3}}, "steps: none for the share 1; there are: 0.5"),
        ({"epochs": 2}, "give steps or epochs, not both"),
        ({"grids": [{"task": "cqa"}]}, "no key 'task'"),
        ({"data": "my.csv"}, "no key 'data': it is an option of training: write it under `train`"),
        ({"models": {3: SHAPE}}, "models: expected names of up to 100 bytes, got 3"),
        ({"models": {"m" * 101: SHAPE}}, "models: expected names of up to 100 bytes, got 'mmm"),
        ({"models": {}}, "models: expected one or more"),
        ({"models": {"a": 3}}, "models, a: expected options with values"),
        ({"models": {"a": {"model": ["b"]}}}, "models, a: model: expected a text, got ['b']"),
        ({"methods": [["standard"]]}, "got ['standard']"),
        ({"epochs": float("nan"), "steps": None}, "--epochs (EPOCHS): expected a number above 0"),
        ({"seeds": list(range(5001))}, "10,002 cells: at most 10,000"),
        ({"search": {"learning_rate": [0.1] * 101, "seed": [0] * 100}}, "no option 'seed'"),
        ({"search": {"learning_rate": [0.1] * 101, "batch_size": [1] * 100}}, "10,100 runs in a cell"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(write, capsys, keys, message):
    path = write(**keys)
    assert sweep(path) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"error: {path}: ") and message in told


def test_files_that_are_no_sweep_are_one_line(tmp_path, capsys):
    path = tmp_path / "sweep.yaml"
    for text, message in (
        ("a: [", "not YAML"),
        ("- a", "the file: expected keys with values"),
        ("a: 1\nseeds: [0]\nseeds: [1]\n", "sweep.yaml, line 3: the key 'seeds' comes twice"),
        ("seeds: [0]", "no key 'methods'"),
        ("methods: [standard]", "give a task, such as svamp"),
    ):
        path.write_text(text)
        assert sweep(str(path)) == 1
        assert message in capsys.readouterr().err
    assert sweep(str(tmp_path / "none.yaml")) == 1
    assert "none.yaml: no such file" in capsys.readouterr().err


def test_a_cell_is_the_run_by_hand_chosen_on_validation_and_runs_once(write, inside, tmp_path, capsys):
    by_rank = {"label_by": "rank"}
    path = write(methods=["step_by_step"], search={"learning_rate": [1e-3, 0.1]}, seeds=[1], eval=by_rank)
    assert sweep(path) == 0 and len(inside) == 1
    (found,) = results_of(path)["cells"]

    by_hand = {}
    for rate in (1e-3, 0.1):
        folder = str(tmp_path / f"hand-{rate}")
        keys = yaml.safe_load(pathlib.Path(path).read_text())
        options = keys["train"] | SHAPE | {"task_feature_lengths": {"inputs": 48, "targets": 24}}
        options |= {"method": "step_by_step", "seed": 1, "train_steps": 2, "learning_rate": rate}
        distill_jax.train(TrainConfig(model_dir=folder, eval_period=0, **options))
        scores = {}
        for split in ("validation", "test"):
            evaluated = evaluate_run(EvalConfig(model_dir=folder, split=split, rationale=False, **by_rank))
            scores[split] = evaluated.results[-1], evaluated.predictions.read_text()
        by_hand[rate] = scores
    best = max(by_hand, key=lambda rate: by_hand[rate]["validation"][0]["label_accuracy"])
    assert best == 0.1  # the other one's has hardly left the start
    assert found["chosen"] == {"learning_rate": best} and found["learning_rate"] == best
    for split in ("validation", "test"):
        metrics = by_hand[best][split][0]
        assert {name: found[split][name] for name in metrics} == metrics
    right = [json.loads(line)["correct"] for line in by_hand[best]["test"][1].splitlines()]
    assert (found["test"]["right"], found["test"]["total"]) == (sum(right), 12)
    assert found["correct"] == "".join(str(int(each)) for each in right)
    assert (tmp_path / "out" / found["predictions"]).read_text() == by_hand[best]["test"][1]
    assert [each["values"]["learning_rate"] for each in found["search"]] == [1e-3, 0.1]
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("step 2/2  loss ", "1 of 1 cells are finished", "majority"))
    assert found["steps"] == 2 and found["train_examples"] == 12 and found["parameters"] > 1000
    assert 0 < found["seconds"] <= found["search_seconds"] and found["device"]["platform"]
    # Checkpoints of the run that was not chosen are gone, the other's are there.
    kept = [each.parent.name for each in (tmp_path / "out").glob("cells/*/*/checkpoints")]
    assert kept == [f"learning_rate={best}"]

    before = (tmp_path / "out/results.json").read_text()
    assert sweep(path) == 0 and len(inside) == 1
    assert (tmp_path / "out/results.json").read_text() == before
    # A damaged record is made again of the figures that are there.
    (damaged,) = (tmp_path / "out").glob("cells/*/result.json")
    damaged.write_text(damaged.read_text()[:100])
    assert sweep(path) == 0 and inside.pop() == inside[0]
    assert f"{damaged}: damaged" in capsys.readouterr().err
    assert (tmp_path / "out/results.json").read_text() == before
    # Another value to search adds its run alone.
    metrics = {each: each.stat().st_mtime_ns for each in (tmp_path / "out").glob("cells/*/*/metrics.jsonl")}
    longer = {"learning_rate": [1e-3, 0.1, 0.2]}
    assert sweep(write(methods=["step_by_step"], search=longer, seeds=[1], eval=by_rank)) == 0
    assert len(inside) == 2 and len(results_of(path)["cells"][0]["search"]) == 3
    assert all(each.stat().st_mtime_ns == changed for each, changed in metrics.items())


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b""], ids=lambda text: text[:3]
)
def test_damaged_figures_of_a_cell_are_made_again(write, inside, content, capsys, tmp_path):
    path = write(methods=["standard"])
    assert sweep(path) == 0
    before = results_of(path)
    clocks = {"seconds", "processor_seconds", "search_seconds"}
    (folder,) = (tmp_path / "out/cells").iterdir()
    for name in ("result.json", "run/test.json", "run/validation.json", "run/seconds.json"):
        (folder / name).write_bytes(content)
    (tmp_path / "out/floors.json").write_bytes(content)
    assert sweep(path) == 0 and len(inside) == 2
    now, told = results_of(path), capsys.readouterr().err
    for cell in (before["cells"][0], now["cells"][0]):
        for name in clocks:
            del cell[name]
    assert now == before
    for name in ("result.json", "run/test.json", "run/validation.json", "run/seconds.json"):
        assert f"{folder / name}: damaged (" in told


def test_names_with_brackets_are_shown_as_they_are(write, inside, capsys):
    path = write(methods=["standard"], models={"[/red]": SHAPE})
    assert sweep(path) == 0
    assert "standard" in capsys.readouterr().out
    assert sweep(write(models={"[/red]": SHAPE, "b": SHAPE | {"emb_dim": 8}}, methods=["standard"])) == 0
    assert "standard, [/red]" in capsys.readouterr().out


def test_what_the_cells_read_is_looked_at_before_any_of_them_runs(write, inside, capsys, tmp_path):
    gone = str(tmp_path / "gone.jsonl")
    models = {"mini": SHAPE, "other": SHAPE | {"initial_checkpoint_path": "lost", "vocabulary": "lost/words"}}
    path = write(by_method={"standard": {"data": gone}}, models=models, seeds=[0, 1])
    assert sweep(path) == 1 and not inside
    first, *problems = capsys.readouterr().err.splitlines()
    assert first == f"error: {path}: nothing was run, as these cannot be read:"
    checkpoints = [
        "--init (INITIAL_CHECKPOINT_PATH) lost: no such file or folder",
        "--vocabulary (VOCABULARY) lost/words: no such file or folder",
    ]
    assert [line.strip() for line in problems] == [f"--data (DATA) {gone}: no such file", *checkpoints]
    path = write(task="svamp", train={name: value for name, value in TRAIN.items() if name != "classes"})
    assert sweep(path) == 1
    assert "this task reads files: say where with --data-dir" in capsys.readouterr().err
    assert sweep(path, "--table") == 1  # which needs no data
    assert f"no table, and no {tmp_path / 'out'}/results.json" in capsys.readouterr().out


def test_a_cell_that_cannot_run_is_listed_and_the_others_run(write, inside, capsys, tmp_path):
    reason = "is 100, but the vocabulary has 259 ids"
    by_method = {"standard": {"vocab_size": 100}, "step_by_step": {"batch_examples": 4}}
    path = write(by_method=by_method, epochs=1, steps=None, keep_checkpoints=False)
    assert sweep(path) == 1
    assert [name.partition("-")[0] for name in inside] == ["standard", "step_by_step"]  # not tried again
    printed = capsys.readouterr().out
    (failed,) = [line for line in printed.splitlines() if line.startswith("failed: ")]
    assert failed.startswith("failed: standard-mini-1-seed0-") and reason in failed
    lost, found = results_of(path)["cells"]
    assert lost["method"] == "standard" and reason in lost["error"] and "test" not in lost
    assert found["method"] == "step_by_step" and (found["steps"], found["batch_size"]) == (3, 8)  # of 24 rows
    assert not list((tmp_path / "out").glob("cells/*/*/checkpoints"))


def test_rows_without_labels_are_one_line(write, inside, capsys, tmp_path):
    unlabelled = [{"id": str(n), "input": f"{n} is even", "rationale": "?"} for n in range(4)]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unlabelled))
    train = yaml.safe_load(pathlib.Path(write()).read_text())["train"]
    for option, message in (
        ("validation_data", "no row of validation has a label to choose a run by"),
        ("test_data", "test, labels generated: no row has a reference label to score by"),
    ):
        path = write(methods=["standard"], train=train | {option: str(tmp_path / "bare.jsonl")})
        assert sweep(path) == 1
        assert message in capsys.readouterr().out


def test_what_fails_is_tried_again_and_again_the_next_time(write, monkeypatch, capsys, tmp_path):
    statuses = []

    def execute(command, log, devices, stops):
        statuses.append(command[-1])
        pathlib.Path(log).write_text("ValueError: bad luck\n")
        return -signal.SIGKILL if len(statuses) % 2 else 1

    monkeypatch.setattr(run, "execute", execute)
    path = write(methods=["standard"])
    assert sweep(path, "--retries", "1") == 1 and len(statuses) == 2
    assert ": ValueError: bad luck (" in capsys.readouterr().out
    assert sweep(path, "--retries", "2") == 1 and len(statuses) == 5
    assert ": ended by SIGKILL (" in capsys.readouterr().out
    assert not (tmp_path / "out/results.json").exists()


def test_a_cell_that_another_sweep_runs_is_left_for_the_end(write, monkeypatch, tmp_path):
    path = write()
    first, second = grid.read(path).cells
    folder = grid.folder_of(first, tmp_path / "out")
    folder.mkdir(parents=True)
    lock, started = FileLock(folder / "lock"), []

    def execute(command, log, devices, stops):
        started.append(command[-1])
        lock.release()
        return -signal.SIGTERM

    monkeypatch.setattr(run, "execute", execute)
    lock.acquire()
    assert sweep(path, "--retries", "0") == 1
    assert started == [second.name, first.name]


def record(method, share, seed, right, total=10):
    made = {"method": method, "model": "mini", "label_source": "reference", "fraction": share, "seed": seed}
    test = {"right": right, "total": total}
    return made | {"train_examples": int(100 * share), "chosen": {"alpha": 0.5}, "test": test}


def test_what_another_machine_finished_is_taken_over_and_the_rest_runs(write, inside, capsys, tmp_path):
    first = write(methods=["standard"])
    assert sweep(first) == 0 and len(inside) == 1
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    there = tmp_path / "elsewhere" / "results.json"
    (record,) = json.loads(there.read_text())["cells"]
    both = write()
    capsys.readouterr()
    assert sweep(both, "--finished", str(there)) == 0
    assert f"{there}: finished cells taken: 1, finished here before: 0" in capsys.readouterr().out
    found = results_of(both)["cells"]
    assert len(inside) == 2 and found[0] == record and found[1]["method"] == "step_by_step"

    assert sweep(both, "--finished", str(there)) == 0 and len(inside) == 2
    assert "finished cells taken: 0, finished here before: 1" in capsys.readouterr().out


def test_other_rows_in_the_same_file_are_other_cells(write, inside, tmp_path, capsys):
    path = write(methods=["standard"])
    assert sweep(path) == 0 and len(inside) == 1
    before = (tmp_path / "out" / "results.json").read_text()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "results.json").write_text(before)
    data = tmp_path / "test.jsonl"
    data.write_text(data.read_text().replace("1 is even", "one is even"))
    capsys.readouterr()
    assert sweep(path, "--finished", str(tmp_path / "elsewhere")) == 0 and len(inside) == 2
    told, (old,) = capsys.readouterr().out, json.loads(before)["cells"]
    assert f"{old['name']!r}: no cell of this sweep: other settings, or other rows" in told
    (new,) = results_of(path)["cells"]
    assert new["name"] != old["name"] and new["test_fingerprint"] != old["test_fingerprint"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"correct": "0"},
        {"correct": ["0", "1"]},
        {"correct": "x1"},
        {"test": None},
        {"test": {"right": 1, "total": 2}},
        {"test": {"right": 1.0, "total": 2, "split": "test"}},
        {"validation": {"right": 3, "total": 2}},
        {"validation": [1, 2]},
        {"search": [{"values": {"learning_rate": 3.0}}]},
        {"search": 1},
        {"search_seconds": float("nan")},
        {"search_seconds": "1"},
        {"chosen": ...},
        {"chosen": []},
        {"train_examples": "12"},
        {"train_examples": ...},
        {"method": "step_by_step"},
        {"seed": 1},
    ],
)
def test_a_record_that_is_not_of_this_sweep_is_told_and_its_cell_runs(write, inside, capsys, tmp_path, change):
    path = write(methods=["standard"])
    (cell,) = grid.read(path).cells
    record = {
        "name": cell.name,
        "task": "t",
        **cell.place(),
        "train_examples": 12,
        "correct": "01",
        "test": {"right": 1, "total": 2, "split": "test"},
        "validation": {"right": 1, "total": 2},
        "search": [{"values": {}}],
        "chosen": {},
        "search_seconds": 1.0,
        "test_fingerprint": "f",
    }
    foreign = {name: value for name, value in (record | change).items() if value is not ...}
    file, unfinished = tmp_path / "results.json", {"name": "later", "error": "not finished"}
    file.write_text(json.dumps({"cells": [unfinished, foreign]}))
    assert sweep(path, "--finished", str(file)) == 0 and len(inside) == 1
    told = capsys.readouterr().out
    assert f"  not taken: 1\n    {foreign['name']!r}: " in told and "later" not in told
    file.write_text(json.dumps({"cells": [record]}))
    assert take(str(file), grid.read(path), tmp_path / "whole") is None
    assert read_result(cell, tmp_path / "whole") == record
    # One that was damaged on this disk, and is JSON still, is no finished cell either.
    damaged = grid.folder_of(cell, tmp_path / "damaged") / "result.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text(json.dumps(foreign))
    assert read_result(cell, tmp_path / "damaged") is None


def test_many_foreign_records_are_told_by_the_first_and_as_texts_without_codes(write, capsys, tmp_path):
    names = ["\x1b[2J", "\n", *map(str, range(5000))]
    (tmp_path / "results.json").write_text(json.dumps({"cells": [{"name": name} for name in names]}))
    assert take(str(tmp_path / "results.json"), grid.read(write()), tmp_path / "out") is None
    told = capsys.readouterr().out
    assert "  not taken: 5002\n" in told and "'\\x1b[2J': no cell of this sweep" in told
    assert "\x1b" not in told and len(told.splitlines()) == 13


def test_values_that_are_no_name_of_a_folder_stay_below_that_of_the_cell():
    assert (
        grid.run_of({}) == "run"
        and grid.run_of({"learning_rate": 0.1, "a": "b c"}) == "learning_rate=0.1,a=b c"
    )
    odd = ["a/../../../b", "a/.._.._../b", "x" * 300, "x" * 301, "a\0b", "a\ud800"]
    names = [grid.run_of({"init": value}) for value in odd]
    assert len(set(names)) == len(odd)
    assert not any("/" in name or "\0" in name or len(name) > 200 for name in names)


NO_RESULTS = ["[]", "{}", '{"cells": 1}', '{"cells": [1]}', '{"cells": [{}]}', "{", '{"cells": [{"name": []}]}']
NO_RESULTS += ['{"cells": [{"name": "\\ud800"}]}', "[" * 100_000]


@pytest.mark.parametrize("text", NO_RESULTS, ids=lambda text: text[:30])
def test_what_is_no_results_of_a_sweep_is_one_line(write, inside, capsys, tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    assert sweep(write(), "--finished", str(tmp_path / "results.json")) == 1 and not inside
    assert f"{tmp_path / 'results.json'}" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(write, inside, capsys, tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file/below", tmp_path / ("x" * 300)):
        assert cli.main(["sweep", write(), "--output", str(output)]) == 1 and not inside
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith(f"error: {output}") and "cannot be read or written (" in told


def test_cells_that_were_scored_on_different_rows_are_told(write, inside, capsys, tmp_path):
    path = write()
    assert sweep(path) == 0
    assert "different rows" not in capsys.readouterr().out
    one = next((tmp_path / "out").glob("cells/*/result.json"))
    one.write_text(json.dumps(json.loads(one.read_text()) | {"test_fingerprint": "of others"}))
    assert sweep(path, "--table") == 0
    assert "scored on different rows" in capsys.readouterr().out


def test_the_table_by_hand():
    cells = [record("standard", 0.5, seed, right) for seed, right in enumerate((5, 6, 7))]
    cells += [record("standard", 1.0, 0, 8), record("step_by_step", 1.0, 0, 9)]
    rules = {"majority": {"value": 0.5}, "teacher": {"value": 0.75}}
    floors = [{"share": share, "seed": 0, "accuracies": rules} for share in (0.5, 1.0)]
    columns, found = table.table(cells, floors, planned=3)
    assert columns == ["test accuracy", "0.5 (50 rows)", "1 (100 rows)"]
    low, high = mean_interval([0.5, 0.6, 0.7])
    one, two = share_interval(8, 10)
    assert found[0] == [
        "standard",
        f"60.0% ({100 * low:.1f} to {100 * high:.1f})",
        f"80.0% ({100 * one:.1f} to {100 * two:.1f}, 1 of 3 seeds)",
    ]
    assert found[1][:2] == ["step_by_step", ""] and found[2] == ["majority", "50.0%", "50.0%"]
    assert found[3] == ["teacher", "75.0%", "75.0%"]
    assert "means of 3 seeds" in table.how(cells) and "alpha chosen on validation" in table.how(cells)


@pytest.fixture
def places(monkeypatch):
    """What each command of a sweep was started with: the environment that is added, and the cores."""
    seen = []

    def execute(command, log, environment, stops):
        seen.append((environment, os.sched_getaffinity(0)))
        time.sleep(0.05)  # for the other worker to take a cell too
        return -signal.SIGTERM

    monkeypatch.setattr(run, "execute", execute)
    monkeypatch.delenv(run.MEMORY, raising=False)
    return seen


def test_workers_have_their_own_cores_and_gpus(write, monkeypatch, places):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    own = os.sched_getaffinity(0)
    sweep(write(seeds=[0, 1]), "--workers", "2", "--retries", "0")
    seen = [(environment["CUDA_VISIBLE_DEVICES"], cores) for environment, cores in places]
    assert {devices for devices, _ in seen} == {"3", "5"}
    assert not any(run.MEMORY in environment for environment, _ in places)  # each has a GPU of its own
    assert os.sched_getaffinity(0) == own
    if len(own) > 1:
        (one, other) = {frozenset(cores) for _, cores in seen}
        assert not one & other and one | other == own


@pytest.mark.parametrize("own, expected", [(None, "0.450"), ("0.2", None)])
def test_workers_that_share_a_gpu_share_its_memory(write, monkeypatch, places, own, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    if own is not None:
        monkeypatch.setenv(run.MEMORY, own)
    sweep(write(seeds=[0, 1]), "--workers", "2", "--retries", "0")
    assert {environment.get(run.MEMORY) for environment, _ in places} == {expected}


def wait_for(process, condition):
    while not condition():
        assert process.poll() is None, "the sweep ended before it was killed"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("told, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_sweep_that_is_told_to_stop_says_how_it_goes_on(write, heard, tmp_path, told, status):
    path, root = write(seeds=[0, 1, 2]), tmp_path / "stopped"
    command = [sys.executable, "-m", "distill_jax.cli", "sweep", path, "--output", str(root)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, cwd=ROOT, **pipes)
    wait_for(process, (root / "results.json").exists)
    process.send_signal(told)
    assert "told to stop: " in process.communicate()[1] and process.returncode == status
    cells = json.loads((root / "results.json").read_text())["cells"]
    # Not the second: on a busy machine it may end before this process sends the signal.
    assert cells[0]["test"]["total"] and cells[-1]["error"] == "not finished"


@pytest.mark.slow
def test_two_workers_killed_in_the_middle_resume_and_end_as_one_process_does(write, inside, tmp_path, capsys):
    keys = {"steps": 12, "train": yaml.safe_load(pathlib.Path(write()).read_text())["train"]}
    keys["train"] |= {"checkpoint_period": 4}
    path, root = write(**keys), tmp_path / "killed"
    command = [sys.executable, "-m", "distill_jax.cli", "sweep", path, "--output", str(root), "--workers", "2"]
    cells = grid.read(path).cells

    process = subprocess.Popen(command, start_new_session=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(process, lambda: list(root.glob("cells/*/run/checkpoints/4")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in root.glob("cells/*/result.json")}
    assert len(before) < len(cells)
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())

    assert sweep(path) == 0 and len(inside) == 2
    spent = {"seconds", "processor_seconds", "search_seconds"}
    killed, whole = (
        [{k: v for k, v in each.items() if k not in spent} for each in json.loads(file.read_text())["cells"]]
        for file in (root / "results.json", tmp_path / "out/results.json")
    )
    assert killed == whole


@pytest.fixture(scope="module")
def submitit():
    """Imported before a test replaces stderr: it shuts logging down, and absl then closes the stream it has."""
    return pytest.importorskip("submitit")


@pytest.mark.slow
def test_a_cell_as_a_job_of_submitit(submitit, write, tmp_path):
    path = write(methods=["standard"])
    assert sweep(path, "--cluster", "local") == 0
    (found,) = results_of(path)["cells"]
    assert found["method"] == "standard" and list((tmp_path / "out/jobs").iterdir())
    assert read_result(grid.read(path).cells[0], tmp_path / "out") == found


def test_a_setting_that_submitit_does_not_have_is_one_line(submitit, write, capsys):
    assert sweep(write(slurm={"slurm_partitions": "a"}), "--cluster", "local") == 1
    assert "slurm: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments/sweeps").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_committed_sweep_is_read(path):
    assert len(grid.read(str(path)).cells) >= 6
