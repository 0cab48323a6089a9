"""README's part about speed is that of the results that are there."""

import json
import pathlib

import pytest

from benchmarks import page

ROOT = pathlib.Path(__file__).parents[2]


def test_readme_is_that_of_the_results(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = page.README.read_text().split(page.MARKS[0])[1].partition(page.MARKS[1])[0]
    assert text == page.readme()


@pytest.mark.parametrize("marks, made", [(page.DECODE_MARKS, page.decoding), (page.STEP_MARKS, page.step)])
def test_the_times_in_the_docs_are_those_of_the_results(monkeypatch, marks, made):
    monkeypatch.chdir(ROOT)
    assert page.DOCS.read_text().split(marks[0])[1].partition(marks[1])[0] == made()


def test_parts_stand_beside_their_share_of_the_whole(tmp_path):
    rates = {"ours": {"median": 2.0}, "seconds_by_program": {"ours": {"encoding": 1.5, "all": 2.0}}}
    parts = {"seconds": {"step": 0.5, "products": 0.4}, "products_flops": 1e11}
    made = {"device": "new", "decode_labels": rates, "step_parts": parts, "peaks": {"jax": 5e11}}
    (tmp_path / "2026-11-01-cpu.json").write_text(json.dumps(made))
    assert page.decoding(tmp_path) == (
        "| seconds | labels, new |\n| --- | ---: |\n| encoding | 1.50 (75%) |\n| all | 2.00 (100%) |\n"
    )
    assert page.step(tmp_path) == (
        "| seconds of a step | new |\n| --- | ---: |\n| step | 0.50 (100%) |\n| products | 0.40 (80%) |\n"
        "\nnew: the products run at 250 GFLOP/s, 50% of the measured peak.\n"
    )


@pytest.fixture
def folder(tmp_path):
    """Two processors, the first measured twice."""

    def write(day, device, rate, **more):
        one = {"ours": {"median": rate}, "reference": {"median": 5.0}, "share_of_peak": {"ours": 0.53}}
        made = {"device": device, "cores": 2, "train": one} | more
        (tmp_path / f"2026-11-{day}-cpu.json").write_text(json.dumps(made))

    write(1, "old", 1.0)
    write(2, "old", 7.5)
    write(
        3,
        "new",
        15.0,
        peaks={"jax": 5.2e11, "torch": 2.6e11},
        startup={"infer_again": {"seconds": {"median": 3.21}}},
    )
    return tmp_path


def test_several_processors_stand_in_one_table(folder):
    text = page.readme(folder)
    peer = "the paper's PyTorch computation 5.0 pairs/s"
    assert f"| training | old | 7.5 pairs/s (53%) | {peer} | 1.50 | 2, missed |" in text
    assert "| training | new | 15.0 pairs/s (53%) |" in text and "| 3.00 | 2 |" in text
    assert "520 GFLOP/s in XLA and 260 in PyTorch: of a ratio to PyTorch 2.00 is the library's own" in text
    assert "a line through `infer` takes 3.2 s." in text
    assert "old, 2 cores" in text and "the matrix peaks were not measured." in text
