import json

import pytest

from distill_jax.cli import main as cli
from distill_jax.errors import UserError
from distill_jax.evaluation.comparison import compare_files


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows(correct):
    return [{"id": f"r{number}", "correct": right} for number, right in enumerate(correct)]


def test_rows_are_matched_by_id(tmp_path):
    a = write(tmp_path / "a.jsonl", rows([True, False, False, True]))
    b = write(tmp_path / "b.jsonl", reversed(rows([True, True, False, True])))
    found = compare_files(a, b, resamples=100, seed=0)
    assert found["accuracies"] == [0.5, 0.75]
    assert (found["both"], found["only_first"], found["only_second"], found["neither"]) == (2, 0, 1, 1)


def test_the_command_prints_a_table_or_json(tmp_path, capsys):
    a = write(tmp_path / "a.jsonl", rows([True] * 3 + [False] * 9))
    b = write(tmp_path / "b.jsonl", rows([True] * 12))
    assert cli.main(["compare", a, b]) == 0
    printed = capsys.readouterr().out
    assert "p (McNemar, exact)" in printed and "0.003906" in printed  # 2 / 2**9
    assert cli.main(["compare", a, b, "--json", "--seed", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["mcnemar_p"] == pytest.approx(2 / 2**9)


def test_mistakes_give_one_line(tmp_path, capsys):
    a = write(tmp_path / "a.jsonl", rows([True, False]))
    longer = write(tmp_path / "longer.jsonl", rows([True, False, True]))
    twice = write(tmp_path / "twice.jsonl", rows([True]) * 2)
    unlabelled = write(tmp_path / "unlabelled.jsonl", [{"id": "r0"}])
    (tmp_path / "empty.jsonl").write_text("")
    for second, message in (
        (longer, "a.jsonl: no row with the id 'r2'"),
        (twice, "line 2: the id 'r0' comes twice"),
        (unlabelled, "line 1: expected `id` and `correct`"),
        (str(tmp_path / "empty.jsonl"), "no rows in this file"),
        (str(tmp_path / "none.jsonl"), "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            compare_files(a, second, resamples=10, seed=0)
    assert cli.main(["compare", a, a, "--resamples", "0"]) == 1
    assert "--resamples" in capsys.readouterr().err
