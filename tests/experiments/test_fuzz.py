"""The readers, fed with a few hostile files each; `distill_jax.experiments.fuzz` feeds them with many."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_jax.errors import UserError
from distill_jax.experiments.fuzz import main, one, rows
from distill_jax.experiments.fuzz import settings as of_settings
from distill_jax.experiments.fuzz.mutations import FORMS, Mutator
from distill_jax.experiments.fuzz.target import Target, lines

CHEAP = [*rows.TARGETS, *of_settings.TARGETS]
DEEP = ["T5X, msgpack", "Hugging Face, safetensors", "records, manifest", "tokenizer_config.json"]


@pytest.mark.parametrize("name", [*CHEAP, *DEEP])
def test_a_reader_reads_an_input_or_refuses_it_well(name, tmp_path):
    feeder = one.Feeder(name, tmp_path)
    numbers = st.integers(0, 1 << 40)

    @settings(max_examples=6, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(number=numbers, raw=st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
    def feed(number, raw):
        feeder.feed(Mutator(feeder.seeds, feeder.target.form, number).make())
        feeder.feed(raw)

    feed()
    assert not feeder.figures.faults and feeder.figures.inputs >= 12


@pytest.mark.parametrize("form", [None, *FORMS])
def test_inputs_are_many_and_the_same_again(form):
    whole = lines({"a": [1, {"b": "c"}]}) if form in (None, "lines") else FORMS[form][1]([{"a": [1, "b"]}, ""])
    made, again = ([Mutator([whole], form, number).make() for number in range(60)] for _ in range(2))
    assert made == again and len({*made}) > 40


def hang(path):
    end = time.process_time() + 5
    while time.process_time() < end:
        pass


def refuse(path):
    raise UserError("something is wrong")


def refuse_at_length(path):
    raise UserError(f"{path}: is\nwrong")


@pytest.mark.parametrize(
    ("read", "place"),
    [
        (lambda path: json.loads(path.read_text()), "JSONDecodeError in "),
        (hang, "Slow in "),
        (refuse, "no file named"),
        (refuse_at_length, "several lines"),
    ],
)
def test_what_is_a_fault(tmp_path, monkeypatch, read, place):
    monkeypatch.setattr(one, "SECONDS", 0.05)
    found = one.fault(Target(read, "file"), tmp_path, b"{")
    assert found and found[0].startswith(place)


def test_memory_that_an_input_took(tmp_path, monkeypatch):
    taken = iter([0, one.MEMORY + (1 << 20)])
    monkeypatch.setattr(one, "_memory", lambda: next(taken))
    assert one.fault(Target(lambda path: None, "file"), tmp_path, b"") == ("memory", "1025 MB")


def test_an_error_that_names_the_file_is_none(tmp_path):
    def read(path):
        raise UserError(f"{path}: not so")

    assert one.fault(Target(read, "file"), tmp_path, b"") is None


def test_names_of_readers():
    assert main.names(["run.json", "T5X, m"]) == ["run.json", "T5X, msgpack"]
    assert len(main.names([])) == len(one.TARGETS) > 50
