import json

import pyarrow
import pyarrow.parquet
import pytest
from teacher_helpers import CLASSES, examples, lines

from distill_jax.cli import main as cli
from distill_jax.config import AnnotateConfig
from distill_jax.data.prepare import prepare
from distill_jax.tasks import own, registry
from distill_jax.teachers import clients, quality
from distill_jax.teachers.rows import read_ids


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": r.id, "input": r.input}) + "\n" for r in examples(12)))
    return str(path)


def fails(capsys, *argv) -> str:
    """The one line on stderr that begins with `error:` of a command that must fail with status 1."""
    assert cli.main([str(arg) for arg in argv]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def flags(server, tmp_path, *more):
    base = [
        "--base-url",
        server.url,
        "--model",
        "m",
        "--store",
        str(tmp_path / "store.jsonl"),
        "--first-wait",
        "0.01",
    ]
    return [*base, *map(str, more)]


def test_what_comes_out_is_what_train_reads(loopback, tmp_path, data, capsys):
    server, output, page = loopback(), tmp_path / "out.jsonl", tmp_path / "report.html"
    more = ["--classes", ",".join(CLASSES), "--samples", "3", "--seed", "1", "--logprobs", "3"]
    delivered = ["--output", output, "--report", page]
    assert cli.main(["annotate", data, *flags(server, tmp_path, *more, *delivered)]) == 0
    told = capsys.readouterr()
    assert "answered 36 of 36 requests, " in told.err and "; label_probs in 36 of 36; " in told.err
    assert f"{output}: 12 rows, 12 with an answer, 12 with label_probs\n" in told.out
    rows = lines(output)
    assert [row["id"] for row in rows] == [f"row-{n}" for n in range(12)]
    for row in rows:
        assert row["teacher_label"] in CLASSES and row["rationale"].startswith("Reason ")
        assert sum(row["label_probs"]) == pytest.approx(1.0, abs=1e-5)
        assert "label" not in row and 0 < row["agreement"] <= 1
    description = own.describe(str(output), classes=list(CLASSES))
    for method in ("step_by_step", "soft_labels"):  # as `train --data` prepares it
        task, views = registry.resolve(method, "teacher", own_data=description)
        lengths = {"inputs": 256, "targets": 128}
        prepared = prepare(task, views, "train", vocabulary="bytes", task_feature_lengths=lengths)
        assert prepared.manifest["examples"] > 0
    assert len(list(task.source.examples("train"))) + len(list(task.source.examples("validation"))) == 12
    shown = page.read_text()
    assert "<table>" in shown and "So the answer is" in shown and "default@" in shown
    figures = json.loads(page.with_suffix(".json").read_text())
    assert (figures["samples"], figures["with_label_probs"]) == (36, 12)
    assert figures["accuracy"] is None and figures["usd"] is None


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_other_files_with_other_columns(loopback, tmp_path, kind):
    table = {"number": ["1", "2"], "text": ["It rains.", "It snows."], "gold": ["neutral", "entailment"]}
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        rows = [",".join(table), *(",".join(row) for row in zip(*table.values(), strict=True))]
        path.write_text("\n".join(rows) + "\n")
    else:
        pyarrow.parquet.write_table(pyarrow.table(table), path)
    server, output = loopback(), tmp_path / "out.jsonl"
    columns = ["--id", "number", "--input", "text", "--label", "gold", "--output", output]
    assert cli.main(["annotate", str(path), *flags(server, tmp_path, *columns)]) == 0
    assert [(row["id"], row["label"]) for row in lines(output)] == [("1", "neutral"), ("2", "entailment")]
    assert "teacher_label" in lines(output)[0]


def test_a_task_and_the_accuracy_beside_gold(loopback, tmp_path, capsys):
    server = loopback()
    assert (
        cli.main(
            ["annotate", "entailment", "--limit", "60", *flags(server, tmp_path, "--output", tmp_path / "o")]
        )
        == 0
    )
    out = capsys.readouterr().out
    gold = [row.get("label") == row["teacher_label"] for row in lines(tmp_path / "o")]
    assert f"{sum(gold) / 60:.4f} on 60 rows, 95% interval" in out
    assert "hypothesis says" in server.log[0]["body"]["messages"][0]["content"]
    assert len(server.log[0]["body"]["messages"]) == 8  # system, three demonstrations, the question


def test_only_the_given_rows_and_a_budget(loopback, tmp_path, data, capsys):
    """What active annotation needs: these rows, so many requests; then others, into the same store."""
    server, ids = loopback(), tmp_path / "ids.txt"
    ids.write_text("row-3\nrow-7\n\nrow-11\n")
    assert cli.main(["annotate", data, *flags(server, tmp_path, "--ids", ids, "--budget-requests", 2)]) == 3
    assert "stopped: the budget of requests is spent; the same command resumes" in capsys.readouterr().err
    assert cli.main(["annotate", data, *flags(server, tmp_path, "--ids", ids, "--budget-requests", 3)]) == 0
    store = lines(tmp_path / "store.jsonl")
    assert sorted(line["id"] for line in store) == ["row-11", "row-3", "row-7"] and server.count == 3
    other = tmp_path / "ids.jsonl"
    other.write_text('{"id": "row-3", "score": 0.1}\n{"id": "row-0", "score": 0.2}\n')
    output = tmp_path / "out.jsonl"
    assert cli.main(["annotate", data, *flags(server, tmp_path, "--ids", other, "--output", output)]) == 0
    assert server.count == 4 and [row["id"] for row in lines(output)] == ["row-0", "row-3"]
    other.write_text('{"id": "row-3"}\n{"id": "row-99"}\n')
    assert "1 of the row ids are of no row, such as 'row-99'" in fails(
        capsys, "annotate", data, *flags(server, tmp_path, "--ids", other)
    )


def test_dry_run_asks_nobody(loopback, tmp_path, data, capsys):
    server = loopback()
    dry = ["annotate", data, "--base-url", server.url, "--model", "m", "--dry-run"]
    assert cli.main([*dry, "--row", "row-5", "--price", "1,2", "--max-tokens", "100"]) == 0
    out = capsys.readouterr().out
    assert "[user]\nPremise: number 5 of 12. Hypothesis: yes." in out and "row row-5" in out
    assert "12 rows, 1 samples each" in out and "at most 1,200 of answers" in out and "USD" in out
    assert cli.main([*dry, "--protocol", "completions"]) == 0
    assert "[user]" not in capsys.readouterr().out
    assert server.log == [] and not (tmp_path / "store.jsonl").exists()
    assert "no row 'row-50'" in fails(capsys, *dry, "--row", "row-50")


def test_checks_leave_bad_reasons_out(loopback, tmp_path, data):
    def reply(prompt, body):
        number = int(prompt.split()[2])
        said = number + 1 + (number % 2)
        return f"{number} + 1 = {said}. So the answer is neutral."

    server, output = loopback(answers=reply), tmp_path / "out.jsonl"
    assert (
        cli.main(["annotate", data, *flags(server, tmp_path, "--check", "arithmetic", "--output", output)]) == 0
    )
    assert [row["id"] for row in lines(output)] == [f"row-{n}" for n in range(0, 12, 2)]
    assert cli.main(["annotate", data, *flags(server, tmp_path, "--output", output)]) == 0
    assert len(lines(output)) == 12 and server.count == 12


def test_a_store_of_several_settings_is_not_mixed(loopback, tmp_path, data, capsys):
    server, output = loopback(), tmp_path / "out.jsonl"
    assert cli.main(["annotate", data, *flags(server, tmp_path)]) == 0
    assert cli.main(["annotate", data, *flags(server, tmp_path, "--model", "other")]) == 0
    export = ["store", "export", data, "--store", tmp_path / "store.jsonl", "--output", output]
    assert "has completions of several settings" in fails(capsys, *export)
    assert cli.main([str(arg) for arg in [*export, "--model", "other"]]) == 0
    assert len(lines(output)) == 12


def test_log_probabilities_are_read_with_the_prompt_they_came_from(loopback, tmp_path, data, capsys):
    server, output = loopback(), tmp_path / "out.jsonl"
    classes = ["--classes", ",".join(CLASSES)]
    assert (
        cli.main(["annotate", data, *flags(server, tmp_path, *classes, "--logprobs", 3, "--prompt", "anli")])
        == 1
    )
    assert "prompt anli expects premise and hypothesis" in capsys.readouterr().err
    asked = flags(server, tmp_path, *classes, "--logprobs", 3, "--prompt", "entailment")
    assert cli.main(["annotate", data, *asked]) == 0
    export = ["store", "export", data, "--store", tmp_path / "store.jsonl", "--output", output, *classes]
    assert "belong to the prompt entailment@" in fails(capsys, *export)
    assert cli.main([*map(str, export), "--prompt", "entailment"]) == 0
    assert max(lines(output)[0]["label_probs"]) == pytest.approx(0.8, abs=1e-4)


def test_the_parsers_of_flags_know_what_there_is():
    """They name it themselves: importing it would take the command line its half second."""
    choices = {name: field.metadata["option"].choices for name, field in AnnotateConfig.options().items()}
    assert choices["client"] == tuple(clients.CLIENTS) and choices["check"] == tuple(quality.CHECKS)
    kinds = {"unparsed", "unknown_label", "cut", "refused", "broken", "empty"}
    assert set(quality.PROBLEMS) == kinds | set(quality.CHECKS)


def test_a_temperature_that_is_not_sent(loopback, tmp_path, data):
    server = loopback()
    assert cli.main(["annotate", data, *flags(server, tmp_path, "--temperature", "none", "--samples", 2)]) == 0
    assert server.count == 24 and "temperature" not in server.log[0]["body"]


def test_a_run_without_an_answer_says_so(loopback, tmp_path, data, capsys):
    server, output = loopback(faults={"hang": 1.0}), tmp_path / "out.jsonl"
    slow = ["--timeout", "0.05", "--attempts", "1", "--output", output]
    assert cli.main(["annotate", data, *flags(server, tmp_path, *slow, "--label", "input")]) == 1
    told = capsys.readouterr()
    [line] = [line for line in told.err.splitlines() if line.startswith("answered ")]
    assert line.startswith(
        "answered 0 of 12 requests, up to 1 at a time; 12 failed; 12 attempts timed out (raise"
    )
    assert "a second" not in line and "a minute" not in line and "0 completions added" in line
    assert f"{output}: 12 rows, 0 with an answer, 0 with label_probs\n" in told.out
    assert told.err.splitlines()[-1].startswith("error: 12 requests got no answer")


def test_a_stopped_run_delivers_what_there_is(loopback, tmp_path, data):
    server, output = loopback(), tmp_path / "out.jsonl"
    stopped = flags(server, tmp_path, "--budget-requests", 4, "--output", output)
    assert cli.main(["annotate", data, *stopped]) == 3
    assert len(lines(output)) == 4


def test_mistakes_give_one_line(loopback, tmp_path, data, capsys, monkeypatch):
    server = loopback()
    store = ["--store", tmp_path / "s.jsonl"]
    here = ["--base-url", server.url, "--model", "m", *store]
    assert "--store FILE is needed" in fails(capsys, "annotate", data, "--base-url", server.url, "--model", "m")
    assert "OPENAI_API_KEY" in fails(capsys, "annotate", data, "--model", "m", *store)
    assert "NO_SUCH" in fails(capsys, "annotate", data, *here, "--api-key-env", "NO_SUCH")
    assert "unknown task 'snli'" in fails(capsys, "annotate", "snli", *here)
    assert "no split 'dev'" in fails(capsys, "annotate", "arithmetic", "--split", "dev", *here)
    assert "no such file" in fails(capsys, "annotate", tmp_path / "none.jsonl", *here)
    assert "prompt nothing" in fails(capsys, "annotate", data, *here, "--prompt", "nothing")
    assert "--temperature above 0" in fails(capsys, "annotate", data, *here, "--samples", 2, "--temperature", 0)
    assert "--price" in fails(capsys, "annotate", data, *here, "--budget-usd", 1)
    assert "JSON object" in fails(capsys, "annotate", data, *here, "--extra-body", "[")
    assert "--structured needs" in fails(
        capsys, "annotate", data, *here, "--structured", "--protocol", "completions"
    )
    assert "expected an address" in fails(capsys, "annotate", data, "--base-url", "x", "--model", "m", *store)
    assert "are of files" in fails(capsys, "annotate", "arithmetic", *here, "--classes", "a,b")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"input": "x"}\n{"inputs": "y"}\n')
    assert "line 2" in fails(capsys, "annotate", bad, *here)
    assert "no such file" in fails(capsys, "store", "export", data, "--store", tmp_path / "no", "--output", "x")
    server.script.extend(["400"] * 12)
    assert "the first 3 requests failed" in fails(capsys, "annotate", data, *here, "--concurrency", 1)
    server.script.clear()
    server.script.extend(["", *["400"] * 2])
    one = ["--concurrency", 1]
    assert "2 requests got no answer" in fails(capsys, "annotate", data, *here, *one)


def test_ids_have_one_spelling_whichever_file_they_come_from(tmp_path):
    (tmp_path / "ids.jsonl").write_text('{"id": 1.0}\n{"id": "2"}\n{"id": 3}\n')
    (tmp_path / "ids.txt").write_text("1.0\r\n 2\r\n3\r\n\r\n", encoding="utf-16")
    for name in ("ids.jsonl", "ids.txt"):
        assert read_ids(str(tmp_path / name)) == {"1", "2", "3"}
