import copy
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_jax.checkpoints import run_dir
from distill_jax.errors import UserError

RUN = run_dir.Run(
    mixture_or_task_name="svamp_step_by_step",
    label_source="reference",
    module=None,
    task_feature_lengths={"inputs": 64, "targets": 32},
    vocabulary="abc",
    data="def",
    model={"vocab_size": 384, "emb_dim": 8, "mlp_activations": ["gelu", "linear"]},
    batch_size=4,
    seed=0,
    view_weights={"label": 0.5, "rationale": 0.5},
    own_data={
        "data": "/a.csv",
        "splits": {"train": "/a.csv"},
        "rationales": None,
        "columns": {"input": "question"},
        "classes": ["a", "b"],
        "module": None,
    },
    lora={"rank": 2, "alpha": 4.0, "targets": ["mlp"], "base": "/b", "fingerprint": "0"},
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
NAMES = st.text(max_size=3)
JSON = st.recursive(LEAVES, lambda x: st.lists(x, max_size=2) | st.dictionaries(NAMES, x, max_size=2))


def places(value, path=()):
    """The paths of all values in a JSON value."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def changed(path, value=None, remove=False):
    """The description with the value at a path replaced, or taken out."""
    description = copy.deepcopy(dataclasses.asdict(RUN))
    if not path:
        return value
    *above, last = path
    holder = description
    for key in above:
        holder = holder[key]
    if remove:
        del holder[last]
    else:
        holder[last] = value
    return description


def test_a_folder_is_claimed_once_and_again_by_the_same_run(tmp_path):
    run_dir.claim(str(tmp_path / "run"), RUN)
    run_dir.claim(str(tmp_path / "run"), RUN)
    assert run_dir.load(str(tmp_path / "run")) == RUN


def test_another_run_is_refused_with_the_fields_that_differ(tmp_path):
    run_dir.claim(str(tmp_path), RUN)
    with pytest.raises(UserError, match="batch_size was 4, now 8") as error:
        run_dir.claim(str(tmp_path), dataclasses.replace(RUN, batch_size=8))
    assert "vocabulary" not in str(error.value)
    assert run_dir.load(str(tmp_path)) == RUN


def test_checkpoints_of_an_unknown_run_are_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no run.json"):
        run_dir.claim(str(tmp_path), RUN)


def test_a_folder_without_a_run_and_a_damaged_one(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        run_dir.load(str(tmp_path))
    (tmp_path / "run.json").write_text('{"mixture')
    with pytest.raises(UserError, match="run.json: not a run description"):
        run_dir.load(str(tmp_path))


@pytest.mark.parametrize(
    "path, value, message",
    [
        ((), [], r"the file: expected an object, got \[\]"),
        (("model",), [8], r"model: expected an object, got \[8\]"),
        (("model", "emb_dim"), "8", r"--emb-dim \(EMB_DIM\): expected a whole number of at least 1, got '8'"),
        (("model", "num_heads"), 0, r"--num-heads \(NUM_HEADS\): expected .* at least 1, got 0"),
        (("model", "vocab_size"), None, "model.vocab_size is missing"),
        (("model", "model_family"), "gpt", "expected t5 or .*, got 'gpt'"),
        (("model", "depth"), 1, "depth 1: the family t5 has no such option"),
        (("task_feature_lengths",), {"inputs": 8}, "expected inputs=N,targets=N"),
        (("mixture_or_task_name",), None, "mixture_or_task_name: expected a text, got None"),
        (("seed",), 0.5, "seed: expected a whole number, got 0.5"),
        (("batch_size",), True, "batch_size: expected a whole number, got True"),
        (("view_weights", "label"), "1", "view_weights.label: expected a number, got '1'"),
        (("own_data", "splits"), {}, "own_data.splits.train is missing"),
        (("own_data", "columns", "input"), 1, "own_data.columns.input: expected a text, got 1"),
        (("own_data", "classes"), [1], r"own_data.classes\[0\]: expected a text, got 1"),
        (("lora", "rank"), 0, "lora.rank: expected 1 or more, got 0"),
        (("learning_rate",), 1, "learning_rate is unknown: there are mixture_or_task_name, "),
    ],
)
def test_a_damaged_description_is_refused_by_the_entry(tmp_path, path, value, message):
    (tmp_path / "run.json").write_text(json.dumps(changed(path, value)))
    with pytest.raises(UserError, match=rf"run.json: not a run description of this version: .*{message}"):
        run_dir.load(str(tmp_path))


def test_a_description_with_an_entry_taken_out_is_refused_or_has_its_default(tmp_path):
    for path in filter(None, places(dataclasses.asdict(RUN))):
        (tmp_path / "run.json").write_text(json.dumps(changed(path, remove=True)))
        try:
            run_dir.load(str(tmp_path))
        except UserError as error:
            assert "is missing" in str(error) or "expected inputs=N,targets=N" in str(error)


@given(st.sampled_from(list(places(dataclasses.asdict(RUN)))), JSON)
@settings(max_examples=300)
def test_whatever_stands_in_a_description_is_no_traceback(tmp_path_factory, path, value):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(changed(path, value)))
    try:
        assert isinstance(run_dir.load(str(folder)), run_dir.Run)
    except UserError as error:
        assert "\n" not in str(error) and "run.json" in str(error)


def test_a_url_is_refused_before_a_folder_of_its_name_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"\(MODEL_DIR\) gs://bucket/run: expected a folder: mount the bucket"):
        run_dir.claim("gs://bucket/run", RUN)
    assert not list(tmp_path.iterdir())
