"""The experiment that injects faults: what it counts, and the page that it writes."""

import json
import pathlib

import pytest

pytest.importorskip("aiohttp")

from distill_jax.experiments.faults import disk, flips, kills, load, long_run, main, page


def test_what_is_lost_and_what_is_too_much_by_hand():
    expected = {"rows": "3", "row 0": "a", "row 1": "b", "row 2": "b"}
    assert kills.compare(expected, expected) == {"lost": 0, "more": 0}
    assert kills.compare({"rows": "3", "row 0": "b", "row 1": "b", "row 2": "b"}, expected) == {
        "lost": 1,
        "more": 1,
    }
    assert kills.compare({"rows": "2", "row 0": "a", "row 1": "b"}, expected) == {"lost": 2, "more": 1}


def test_a_slope_leaves_out_what_comes_first():
    samples = [(0, 500.0), *((step, 10.0 + step / 1000) for step in range(200, 1100, 100))]
    assert long_run.slope(samples)["per_10000_steps"] == pytest.approx(10.0)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "b.1.2.partial"])
def test_half_a_file_under_its_name_is_found(tmp_path, name):
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / "whole.jsonl").write_text("{}\n{}\n")
    assert disk.half(tmp_path) == []
    (tmp_path / name).write_text('{}\n{"a')
    assert disk.half(tmp_path) == [str(tmp_path / name)]


def test_a_disk_gets_full_at_distinct_moments_from_no_room_to_a_page_too_little(tmp_path):
    begun = []

    class Disk:
        leave, leave_inodes, mount = begun.append, begun.append, lambda _, *options: begun.append(options)

    for begin in disk.moments(Disk(), 20, 30 * disk.PAGE, 10).values():
        begin()
    free = begun[:20]
    assert free == sorted(set(free)) and free[0] == 0 and free[-1] == 28 * disk.PAGE
    assert begun[20:] == [0, 2, 4, 6, 8, ("remount", "ro")]
    assert len(disk.moments(Disk(), 20, 2 * disk.PAGE, 1)) == 2 + 1 + 1  # there are no more


def test_a_flip_that_nobody_notices_is_counted(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100))
    (tmp_path / "empty").touch()
    (tmp_path / "b").write_bytes(bytes(100))
    found = flips.flip(tmp_path, 6, lambda: any((tmp_path / "a").read_bytes()))
    assert found == {"injected": 6, "files": 2, "unnoticed": 3}
    with pytest.raises(AssertionError, match="when nothing in it is changed"):
        flips.flip(tmp_path, 2, lambda: True)


def test_what_a_server_says_is_compared_without_ids_and_times():
    chat = {"id": "1", "created": 5, "choices": [{"message": {"content": "yes"}}]}
    assert load.said("/v1/chat/completions", json.dumps(chat).encode()) == "['yes']"
    parts = [
        {"choices": [{"delta": delta}]}
        for delta in ({"role": "assistant"}, {"content": "ye"}, {"content": "s"})
    ]
    stream = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
    assert load.said("/v1/chat/completions", stream.encode()) == "yes"
    predicted = {"predictions": [{"label": "yes", "rationale": "so", "label_score": -0.1}]}
    assert load.said("/predict", json.dumps(predicted).encode()) == "[('yes', 'so')]"
    assert load.said("/predict", b'{"error": {"message": "no"}}') == "no"
    assert {status for _, _, status in load.bodies("student")} == {200, 400, 404}


def test_the_part_of_the_page_by_hand():
    killed = {"injected": 30, "lost": 0, "more": 1, "failed": 2}
    cells = {"train: a cut file": {"what": "recovers"}, "eval: a cut file": {"what": "WRONG: another result"}}
    figures = {"kills": {"infer": killed}, "damage": cells}
    figures["disk"] = {"eval": {"injected": 5, "wrong": []}}
    text = page.page(figures)
    assert "| `kill -9` of infer | 30 | 1 too many, 2 failed | the same command | " in text
    assert "| damaged files, 1 kinds | 2 | 1 not told or another result | see below | " in text
    assert "| a full or read-only disk, eval | 5 | nothing | the same command, with room | " in text
    assert "| a cut file | recovers | WRONG: another result |" in text
    assert "Load" not in text
    slope = {"mean": 600.0, "per_10000_steps": 5.0}
    run = {"steps": 20_000, "saves": 200, "validations": 100, "memory_mib": [slope, slope], "step_ms": slope}
    text = page.page({"long_run": {"train": run}})
    assert "memory 600 MiB and 600 MiB in its two" in text and "grows by +5.0 MiB and +5.0 MiB" in text


@pytest.mark.skipif(not main.FILE.exists(), reason="no figures yet")
def test_the_page_of_the_docs_is_that_of_the_figures():
    before, after = page.MARKS
    part = pathlib.Path(main.PAGE).read_text().split(before)[1].partition(after)[0]
    assert part == page.page(main.figures(main.FILE))


def test_the_tests_that_the_page_names_are_there():
    for text in page.TESTS.values():
        for name in text.replace("`", "").split(", "):
            assert (pathlib.Path(__file__).parents[1] / name).is_file(), name
