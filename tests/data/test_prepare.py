import collections
import errno
import json
import os
import re
import subprocess
import sys

import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from distill_jax import files
from distill_jax.data import prepare as prepare_module
from distill_jax.data.loader import Loader
from distill_jax.data.prepare import resolve_vocabulary
from distill_jax.data.records import decode_row
from distill_jax.data.sources import JsonlSource
from distill_jax.data.views import TASK_IDS
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.errors import UserError
from distill_jax.tasks import registry

LENGTHS = {"inputs": 128, "targets": 96}
COMMON = {"vocabulary": "bytes", "task_feature_lengths": LENGTHS}


def prepare(name, split, label_source="reference", rationale_rate=None, **options):
    task, views = registry.resolve(name, label_source, rationale_rate=rationale_rate)
    return prepare_module.prepare(task, views, split, **options)


def rows_of(prepared):
    reader = ArrayRecordReader(str(prepared.path / "rows.array_record"))
    return [decode_row(reader.read([n])[0]) for n in range(reader.num_records())]


def segments_of(prepared):
    """(example, view, inputs, targets) of everything prepared, sorted."""
    return sorted(
        (s.example, s.task_id, tuple(s.inputs.tolist()), tuple(s.targets.tolist()))
        for row in rows_of(prepared)
        for s in row
    )


def cache_entries(kind="prepared"):
    folder = registry_cache() / kind
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def registry_cache():
    return prepare_module.cache.cache_dir()


def message_of(*args, **kwargs):
    with pytest.raises(UserError) as raised:
        prepare(*args, **{**COMMON, **kwargs})
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_shared_inputs_are_kept_once_and_with_their_targets(toy):
    apart = prepare("toy_step_by_step", "train", **COMMON)
    shared = prepare("toy_step_by_step_shared", "train", **COMMON)
    examples = {}
    for row in rows_of(shared):
        assert sum(len(s.inputs) for s in row) <= LENGTHS["inputs"]
        assert sum(len(s.targets) for s in row) <= LENGTHS["targets"]
        for before, segment in zip([None, *row], row, strict=False):
            assert len(segment.inputs) or before.example == segment.example
            assert segment.start == (segment.task_id == TASK_IDS["rationale"])
            examples.setdefault(segment.example, []).append(segment)
    assert len(examples) == apart.manifest["examples"]
    assert all(sum(len(s.inputs) > 0 for s in own) == 1 for own in examples.values())
    targets = sorted(
        (s.example, s.task_id, tuple(s.targets.tolist())) for own in examples.values() for s in own
    )
    assert targets == [(example, view, target) for example, view, _, target in segments_of(apart)]
    assert (
        shared.manifest["encoder_tokens"]
        == sum(len(s.inputs) for own in examples.values() for s in own)
        < apart.manifest["encoder_tokens"] / 2
    )


def test_targets_too_long_for_one_row_have_inputs_of_their_own(toy):
    lengths = {"inputs": 128, "targets": 16}
    prepared = prepare("toy_step_by_step_shared", "train", vocabulary="bytes", task_feature_lengths=lengths)
    rows = rows_of(prepared)
    assert all(sum(len(s.targets) for s in row) <= 16 for row in rows)
    assert any(s.task_id == TASK_IDS["rationale"] and len(s.inputs) for row in rows for s in row)


def test_every_view_once_and_no_row_over(toy):
    prepared = prepare("toy_step_by_step", "train", **COMMON)
    rows = rows_of(prepared)
    for row in rows:
        assert sum(len(s.inputs) for s in row) <= LENGTHS["inputs"]
        assert sum(len(s.targets) for s in row) <= LENGTHS["targets"]
    vocabulary = load_vocabulary("bytes")
    expected = []
    for number, example in enumerate(toy.source.examples("train")):
        for task_id, view in enumerate(toy.views("step_by_step"), 1):
            inputs, targets = (vocabulary.encode(text) for text in view(example))
            inputs, targets = [*inputs[:127], 1], [*targets[:95], 1]
            expected.append((number, task_id, tuple(inputs), tuple(targets)))
    assert segments_of(prepared) == expected


def test_manifest_counts(toy):
    prepared = prepare("toy_step_by_step", "train", **COMMON)
    rows, manifest = rows_of(prepared), prepared.manifest
    assert manifest["rows"] == len(rows)
    assert manifest["examples"] == 300
    assert manifest["views"] == {"label": 300, "rationale": 300}
    assert manifest["without_target"] == {"label": 0, "rationale": 0}
    assert manifest["dropped"] == {} and manifest["filters"]["max_words"] is None
    tokens = sum(len(s.inputs) for row in rows for s in row)
    assert manifest["encoder_tokens"] == tokens
    assert manifest["encoder_fill"] == pytest.approx(tokens / (128 * len(rows)))
    assert json.loads((prepared.path / "manifest.json").read_text()) == manifest


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.25, 2.0])
def test_an_epoch_has_the_views_in_the_proportion_asked_for(toy, rate):
    prepared = prepare("toy_step_by_step", "train", rationale_rate=rate, **COMMON)
    loader = Loader(prepared.path, 1, seed=0, num_epochs=1)
    counts = collections.Counter()
    for batch in loader:
        starts = (batch["decoder_positions"] == 0) & (batch["decoder_segment_ids"] > 0)
        counts.update(batch["decoder_task_ids"][starts].tolist())
    assert counts == {TASK_IDS["label"]: 300, TASK_IDS["rationale"]: 300 * rate}
    assert prepared.manifest["views"] == {"label": 300, "rationale": 300 * rate}
    each = collections.Counter(example for example, view, *_ in segments_of(prepared) if view == 2)
    assert max(each.values()) - min(each.get(n, 0) for n in range(300)) <= 1


def test_unpacked(toy):
    prepared = prepare("toy_step_by_step", "train", pack=False, **COMMON)
    rows = rows_of(prepared)
    assert [len(row) for row in rows] == [1] * 600
    assert segments_of(prepared) == segments_of(prepare("toy_step_by_step", "train", **COMMON))


def test_windows_lose_nothing(toy, monkeypatch):
    whole = segments_of(prepare("toy_step_by_step", "train", **COMMON))
    monkeypatch.setattr(prepare_module, "WINDOW", 7)
    monkeypatch.setattr(prepare_module, "FORMAT", -1)
    assert segments_of(prepare("toy_step_by_step", "train", **COMMON)) == whole


def test_found_again_until_something_changes(toy):
    def path(name="toy_step_by_step", split="train", **changes):
        return prepare(name, split, **{**COMMON, **changes}).path

    first = path()
    written = (first / "rows.array_record").stat().st_mtime_ns
    assert path() == first
    assert (first / "rows.array_record").stat().st_mtime_ns == written
    others = [
        path("toy_standard"),
        path(split="test"),
        path(task_feature_lengths={"inputs": 128, "targets": 97}),
        path(vocabulary="train:400"),
        path(pack=False),
        path(label_source="teacher"),
        path(num_examples=5),
        path(data_fraction=0.5),
        path(seed=1, data_fraction=0.5),
    ]
    assert len({first, *others}) == 10
    assert path(vocabulary="train:400") == others[3]
    assert len(cache_entries()) == 10


def test_same_bytes_again(toy, tmp_path):
    paths = [
        prepare("toy_step_by_step", "train", cache_dir=tmp_path / name, **COMMON).path
        for name in ("one", "two")
    ]
    assert paths[0].name == paths[1].name
    contents = [(path / "rows.array_record").read_bytes() for path in paths]
    assert contents[0] == contents[1]


def test_parts_are_nested_and_the_same_for_all_methods(toy):
    def examples(name, **part):
        return {segment[0] for segment in segments_of(prepare(name, "train", **COMMON, **part))}

    parts = [examples("toy_standard", data_fraction=f) for f in (0.125, 0.25, 0.5, 1.0)]
    assert [len(part) for part in parts] == [38, 75, 150, 300]
    assert parts[0] < parts[1] < parts[2] < parts[3]
    assert examples("toy_step_by_step", data_fraction=0.25) == parts[1]
    assert examples("toy_standard", num_examples=75) == parts[1]
    assert examples("toy_standard", num_examples=75, seed=1) != parts[1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data_fraction": 0.0}, "DATA_FRACTION"),
        ({"data_fraction": 1.5}, "DATA_FRACTION"),
        ({"num_examples": 301}, "301 examples of the 300"),
        ({"num_examples": 0}, "cannot take 0"),
        ({"task_feature_lengths": {"inputs": 64}}, "TASK_FEATURE_LENGTHS"),
        ({"task_feature_lengths": {"inputs": 64, "targets": 1}}, "TASK_FEATURE_LENGTHS"),
        ({"vocabulary": "train:many"}, "train:SIZE"),
        ({"vocabulary": "train:299"}, "300 or more"),
        ({"vocabulary": "/no/such.model"}, "/no/such.model: no such file"),
        ({"label_source": "best"}, "LABEL_SOURCE"),
    ],
)
def test_bad_arguments(toy, changes, expected):
    assert expected in message_of("toy_step_by_step", "train", **changes)
    assert cache_entries() == []


def test_unknown_split_and_task(toy):
    assert "no split 'dev': train, validation, test" in message_of("toy_standard", "dev")
    assert "unknown task 'nosuch'" in message_of("nosuch_standard", "train")


def test_vocabulary_of_the_task_is_shared_by_its_methods(toy):
    one = prepare("toy_standard", "train", **{**COMMON, "vocabulary": "train:400"})
    two = prepare("toy_step_by_step", "test", **{**COMMON, "vocabulary": "train:400"})
    assert one.vocabulary == two.vocabulary
    assert load_vocabulary(one.vocabulary).fingerprint == one.manifest["vocabulary"]
    assert resolve_vocabulary("train:400", toy) == one.vocabulary
    assert resolve_vocabulary("bytes", toy) == "bytes"
    assert len(cache_entries("vocabularies")) == 1


def test_truncated_texts_are_counted_and_told(toy, caplog):
    lengths = {"inputs": 20, "targets": 20}
    for _ in range(2):  # when it is found prepared, too
        caplog.clear()
        prepared = prepare("toy_step_by_step", "train", vocabulary="bytes", task_feature_lengths=lengths)
        why = [e.rationale for e in toy.source.examples("train")]
        cut = sum(len(text) > 19 for text in why)
        assert prepared.manifest["truncated_targets"] == cut
        assert prepared.manifest["truncated_inputs"] == 600
        inputs, targets = caplog.messages
        assert "toy train: 600 of 600 inputs are longer than 20 tokens" in inputs
        assert f"toy train: {cut} of 600 targets are longer than 20 tokens" in targets
    caplog.clear()
    prepare("toy_standard", "train", vocabulary="bytes", task_feature_lengths={"inputs": 128, "targets": 20})
    assert not caplog.records


def spoil(files):
    path = files.rows("train")
    path.write_bytes(path.read_bytes()[:-20])


def test_bad_data_leaves_nothing_behind(files):
    spoil(files)
    message = message_of("files_standard", "train")
    assert message.startswith(f"{files.rows('train')}, line 30: invalid JSON")
    assert cache_entries() == []
    assert "line 30" in message_of("files_standard", "train", vocabulary="train:300")
    assert cache_entries("vocabularies") == []


def test_changed_file_is_prepared_anew(files):
    before = prepare("files_standard", "train", **COMMON)
    path = files.rows("train")
    path.write_text(path.read_text().replace("birds", "cats"))
    after = prepare("files_standard", "train", **COMMON)
    assert before.key != after.key
    assert segments_of(before) != segments_of(after)


def test_unparsed_completions_are_counted(files):
    path = files.completions("test", 0)
    texts = json.loads(path.read_text())
    path.write_text(json.dumps(["no answer", *texts[1:]]))
    manifest = prepare("files_step_by_step", "test", **COMMON).manifest
    assert manifest["without_target"] == {"label": 0, "rationale": 1}
    manifest = prepare("files_task_distillation", "test", **COMMON).manifest
    assert manifest["without_target"] == {"label": 1}
    assert manifest["views"] == {"label": 29}


def table(tmp_path, *rows):
    path = tmp_path / "my.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    registry.register_distillation_task("table", JsonlSource({"train": [path], "test": [path]}))
    return path


def test_row_without_the_label_a_view_needs(tmp_path):
    path = table(
        tmp_path,
        {"input": "1?", "label": "1", "teacher_label": "1", "id": "a"},
        {"input": "2?", "teacher_label": "2", "rationale": "two", "id": "b"},
    )
    assert message_of("table_standard", "train").startswith(f"{path}, line 2: no label")
    for changes in ({"num_examples": 2}, {}):
        assert f"{path}, line 2: " in message_of("table_step_by_step", "train", **changes)
    manifest = prepare("table_step_by_step", "train", label_source="teacher", **COMMON).manifest
    assert manifest["views"] == {"label": 2, "rationale": 1}


def test_training_needs_every_view_and_evaluation_does_not(tmp_path):
    table(tmp_path, {"input": "1?", "label": "1"})
    message = message_of("table_step_by_step", "train")
    assert message.startswith("table train: none of the 1 examples has a rationale: name their column (--rat")
    manifest = prepare("table_step_by_step", "test", **COMMON).manifest
    assert manifest["views"] == {"label": 1, "rationale": 0}
    nothing = prepare("table_rationale", "test", **COMMON)
    assert nothing.manifest["rows"] == 0 == nothing.manifest["encoder_fill"] and rows_of(nothing) == []


def test_full_disk(toy, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")

    def writer(path, options):
        return ArrayRecordWriter("/dev/full", options)

    with monkeypatch.context() as context:
        context.setattr(prepare_module, "ArrayRecordWriter", writer)
        message = message_of("toy_standard", "train")
    assert "no space left on the disk" in message
    assert "DISTILL_JAX_CACHE" in message
    assert cache_entries() == []
    assert prepare("toy_standard", "train", **COMMON).manifest["rows"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_disk_fails_when_synced(toy, monkeypatch, code):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    assert "DISTILL_JAX_CACHE" in message_of("toy_standard", "train")
    assert cache_entries() == []


def test_cache_that_is_no_folder(toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "file"))
    assert "cannot be written" in message_of("toy_standard", "train")


KILLED = """
import os, sys
from distill_jax.data import prepare as p
from distill_jax.data.prepare import prepare
from distill_jax.tasks.registry import resolve
pid = os.getpid()
def encode_row(row):
    os.kill(pid, 9)
p.encode_row = encode_row
prepare(*resolve("entailment_standard"), "validation", vocabulary="bytes",
        task_feature_lengths={"inputs": 512, "targets": 64})
"""


@pytest.mark.slow
def test_killed_half_way(tmp_path):
    """What a killed process leaves never loads, and goes with the next."""
    done = subprocess.run([sys.executable, "-c", KILLED])
    assert done.returncode == -9
    (left,) = cache_entries()
    assert left.endswith(".partial")
    lengths = {"inputs": 512, "targets": 64}
    prepared = prepare("entailment_standard", "validation", vocabulary="bytes", task_feature_lengths=lengths)
    assert cache_entries() == [prepared.path.name]
    assert len(segments_of(prepared)) == prepared.manifest["examples"]


def test_another_process_was_faster(toy, monkeypatch):
    first = prepare("toy_standard", "train", **COMMON)
    rows = (first.path / "rows.array_record").stat().st_ino
    with files.new_folder(first.path) as temporary:
        (temporary / "late").write_text("too late")
    assert cache_entries() == [first.path.name]
    assert (first.path / "rows.array_record").stat().st_ino == rows


def test_name_of_a_prepared_folder(toy):
    name = prepare("toy_step_by_step", "test", **COMMON).path.name
    assert re.fullmatch(r"toy_label_rationale-test-[0-9a-f]{16}", name)
