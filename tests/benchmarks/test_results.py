"""The form of the results, with and without peers."""

import io
import json

import pytest
from rich.console import Console

from benchmarks import results, run
from benchmarks.settings import Settings

TRAIN = {
    "ours": [4.0, 4.4, 4.2],
    "ours_shared_encoding": None,
    "reference": [2.0, 2.1, 2.2],
    "t5x_packed": None,
    "t5x_our_packing": None,
    "first_loss": {"ours": 11.1},
}
STARTUP = {
    "import": {"seconds": [0.1], "process_seconds": [0.2], "peak_gib": 0.05},
    "reference_first_step": None,
}


def text_of(*tables):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(*tables)
    return capture.get()


def test_a_peer_that_is_not_there_is_null():
    found = results.rates("train", TRAIN)
    assert found["ours"]["median"] == 4.2
    assert found["t5x_packed"] is None
    assert found["ours_against"] == dict.fromkeys(results.CONTESTANTS["train"][1:]) | {"reference": 2.0}
    assert found["first_loss"] == {"ours": 11.1}


def test_results_have_every_part_and_survive_json(tmp_path):
    made = run.assemble({"train": TRAIN, "startup": STARTUP}, Settings(), "a machine")
    path = results.write(made, tmp_path / "results", "cpu")
    read = json.loads(path.read_text())
    assert path.name.endswith("-cpu.json")
    assert {*results.CONTESTANTS, *results.OTHERS, "device", "versions", "data"} <= set(read)
    assert read["decode_labels"] is None and read["scaling"] is None
    assert read["startup"]["import"]["seconds"]["median"] == 0.1
    assert read["memory"] == {"import": 0.05, "reference_first_step": None}
    assert read["versions"]["jax"]


def test_the_share_of_the_peak_is_that_of_the_useful_work():
    found = TRAIN | {"flops": {"ours": 10.0, "reference": 10.0, "t5x_packed": 10.0}}
    made = results.rates("train", found, {"jax": 84.0, "torch": None})
    assert made["share_of_peak"] == {"ours": 0.5}  # 4.2 pairs a second of 10 operations each


def test_each_part_is_written_as_it_ends_and_one_that_fails_loses_nothing(tmp_path, monkeypatch):
    written = []

    def measured(part, settings):
        written.append([json.loads(path.read_text())["train"] for path in tmp_path.glob("*-cpu.json")])
        if part == "decode":
            raise RuntimeError("no peer")
        return TRAIN

    monkeypatch.setattr(run, "measured", measured)
    console = Console(file=io.StringIO(), width=120)
    made = run.run_parts(["train", "decode", "prepare"], Settings(), tmp_path, console)
    assert [bool(each) for each in written] == [False, True, True]
    assert made["failed"] == {"decode": "no peer"} and made["prepare"]["ours"]["median"] == 4.2
    assert "decode: no peer" in console.file.getvalue() and "minutes left" in console.file.getvalue()
    run.run_parts(["scaling"], Settings(), tmp_path, console)  # on the same day: the others stay
    [path] = tmp_path.glob("*-cpu.json")
    assert json.loads(path.read_text())["train"]["ours"]["median"] == 4.2
    assert json.loads(path.read_text())["failed"] is None
    run.run_parts(["scaling"], Settings(rows=8), tmp_path, console)  # with other settings: they do not
    assert json.loads(path.read_text())["train"] is None


def test_the_time_left_goes_by_the_parts_so_far():
    assert run.time_left(["train", "decode"], [], 0.0, False) == 10.0
    assert run.time_left(["train", "decode"], ["train"], 12.0, False) == 8.0


def test_results_name_no_folder_of_this_machine():
    made = run.assemble({}, Settings(data_dir="/some/where", work="/else/where"), "cpu")
    assert "where" not in json.dumps(made)


def test_tables_say_who_was_not_there():
    made = run.assemble({"train": TRAIN, "startup": STARTUP}, Settings(), "a machine")
    shown = text_of(results.table(made), results.startup_table(made["startup"]))
    assert "2.00 x" in shown and "not installed" in shown and "not run" in shown and "0.05 GiB" in shown


def test_a_number_that_is_none_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        results.write({"device": float("nan")}, tmp_path, "cpu")
