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
