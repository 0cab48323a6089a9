"""`distill-jax pretrain` from the command line."""

import json
import re

import pytest

from distill_jax.cli import main as cli

SHAPE = "--emb-dim 16 --num-heads 2 --num-encoder-layers 1 --num-decoder-layers 1 --head-dim 8 --mlp-dim 32"
COMMON = f"{SHAPE} --vocab-size 512 --init none --vocabulary train:300 --lengths 40,16 --batch-size 2 --steps 2"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))


def pretrain(*words):
    return cli.main(["pretrain", *words, *COMMON.split()])


def test_several_texts_and_the_perplexity_of_what_is_held_out(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} has {n} legs of {n}\n" for n in range(30)))
    texts = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert pretrain(*texts, "--held-out", "0.1", "--model-dir", str(tmp_path / "run")) == 0
    printed = capsys.readouterr().err
    loss, perplexity = map(
        float, re.search(r"step 2/2  held-out text: loss ([\d.]+)  perplexity ([\d.]+)", printed).groups()
    )
    assert perplexity == pytest.approx(2.718281828**loss, rel=0.01)
    config = str(tmp_path / "run")
    again = ["--config", config, "--model-dir", str(tmp_path / "again")]
    assert cli.main(["pretrain", *again, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["begin", "train", "validation", "end"]
    assert events[2]["text_perplexity"] == pytest.approx(perplexity, abs=0.01)
    assert events[3]["best"] == {"step": 2, "metric": "text_loss", "score": pytest.approx(loss, abs=1e-3)}
    assert cli.main(["pretrain", "--config", config, "--quiet"]) == 0  # which has ended
    assert not "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "words, message",
    [
        (["empty.txt"], "empty.txt: no text in there: expected a document a line"),
        (["none.txt"], "none.txt: no such file"),
        ([], "no value for TEXT (TEXTS): give text files, or a task such as svamp with --task (TASK)"),
        (["one.txt"], "one.txt, line 1: the only row is held out for validation: give more text, a document a"),
        (
            ["two.txt", "--window", "99"],
            "--window (WINDOW) 99: a row of --lengths (TASK_FEATURE_LENGTHS) 40,16 has room for a window of 44",
        ),
        (["--task", "svam"], "unknown task 'svam': did you mean svamp?"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "one.txt").write_text("a b c\n")
    (tmp_path / "two.txt").write_text("a b c\nd e f\n")
    assert pretrain(*words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ") and message in lines[-1]
    assert not (tmp_path / "runs").exists()
