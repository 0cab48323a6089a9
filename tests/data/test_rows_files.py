"""Rows files as people have them: size() is the number of examples, and splits are disjoint and stable."""

import codecs
import csv
import io
import json
import operator
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_jax.data.completions import Completion
from distill_jax.data.labels import place_of
from distill_jax.data.loader import Loader
from distill_jax.data.prepare import prepare, require_label_probs
from distill_jax.data.records import decode_row
from distill_jax.data.selection import Filters
from distill_jax.data.sources import CsvSource, HeldOutSource, JsonlSource, ParquetSource, ReferenceSource
from distill_jax.data.sources.columns import content_id
from distill_jax.data.views import soften
from distill_jax.data.vocabularies import train_vocabulary
from distill_jax.errors import UserError
from distill_jax.tasks import own, registry
from distill_jax.tasks.definition import define_task

LENGTHS = {"inputs": 64, "targets": 32}

ODD = "\u2028\u2029\x85\x1c\x0b\x0c\u00a0\u3000\ufeff"  # what some take for the end of a line, or for nothing


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def task_of(path, **options):
    return define_task("t", JsonlSource({split: [path] for split in ("train", "test")}), **options)


texts = st.text(st.one_of(st.sampled_from(ODD + "ab "), st.characters(exclude_categories=["Cs"])), max_size=8)
ROW = st.one_of(st.tuples(texts, texts), st.just(("the same", "row")))  # of input and label
LINE = st.one_of(ROW, st.text(ODD.replace("\ufeff", "") + " \t", max_size=3))  # or one that looks blank


def cells(row):
    """A CSV line without its ending."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerow(row)
    return file.getvalue().removesuffix("\r\n")


def jsonl_of(folder, lines, ending, bom, last):
    text = ending.join(
        json.dumps({"input": f"x{line[0]}", "label": f"y{line[1]}"}, ensure_ascii=False)
        if isinstance(line, tuple)
        else line
        for line in lines
    )
    (folder / "rows.jsonl").write_bytes(codecs.BOM_UTF8 * bom + (text + ending * last).encode())
    return JsonlSource({"train": [folder / "rows.jsonl"]})


def csv_of(folder, lines, ending, bom, last):
    rows = [(f"x{line[0]}", f"y{line[1]}") if isinstance(line, tuple) else line for line in lines]
    text = ending.join(["input,label", *(cells(row) if isinstance(row, tuple) else row for row in rows)])
    (folder / "rows.csv").write_bytes(codecs.BOM_UTF8 * bom + (text + ending * last).encode())
    return CsvSource({"train": [folder / "rows.csv"]})


def release_of(folder, lines, ending, bom, last):
    """Rows as of the paper's release, their completions in two files."""
    set_folder = folder / "set"
    (set_folder / "llm").mkdir(parents=True)
    jsonl_of(set_folder, lines, ending, bom, last)
    (set_folder / "rows.jsonl").rename(set_folder / "set_train.json")
    answers = [f"because\u2028{line[0]}" for line in lines if isinstance(line, tuple)]
    for chunk, part in enumerate((answers[::2], answers[1::2])):
        path = set_folder / "llm" / f"train_CoT_{chunk}.json"
        path.write_bytes(codecs.BOM_UTF8 * bom + json.dumps(part).encode())
    read_row = operator.itemgetter("input", "label")
    return ReferenceSource("set", read_row, lambda text: Completion("y", text), data_dir=folder)


@settings(max_examples=60)
@given(
    made=st.sampled_from([jsonl_of, csv_of, release_of]),
    lines=st.lists(LINE, min_size=1, max_size=40),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
    last=st.booleans(),
)
def test_any_file_of_rows(made, lines, ending, bom, last):
    lines = [*lines, ("last", "row")]
    expected = [f"x{line[0]}" for line in lines if isinstance(line, tuple)]
    with tempfile.TemporaryDirectory() as folder:
        source = made(pathlib.Path(folder), lines, ending, bom, last)
        examples = list(source.examples("train"))
        assert [e.input for e in examples] == expected
        assert source.size("train") == len(expected)
        own = made is not release_of
        held = HeldOutSource(source, whole_inputs=own)
        if len(expected) == 1:
            with pytest.raises(UserError, match="the only row is held out"):
                list(held.examples("train"))
            return
        splits = {split: list(held.examples(split)) for split in ("train", "validation")}
        assert {split: held.size(split) for split in splits} == {s: len(rows) for s, rows in splits.items()}
        ids = {split: {e.id for e in of_split} for split, of_split in splits.items()}
        assert all(ids.values())
        assert ids["train"].isdisjoint(ids["validation"]) or (own and len(set(expected)) == 1)
        assert sorted(splits["train"] + splits["validation"], key=repr) == sorted(examples, key=repr)
        again = HeldOutSource(source, whole_inputs=own)
        assert {split: list(again.examples(split)) for split in splits} == splits


@settings(max_examples=8, deadline=None)
@given(rows=st.lists(texts, min_size=1, max_size=20), seed=st.integers(0, 3))
def test_an_epoch_is_a_permutation(rows, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = write(pathlib.Path(folder, "rows.jsonl"), [{"input": f"x{text}", "label": "y"} for text in rows])
        task = task_of(path)
        views = task.views("standard")
        options = {"vocabulary": "bytes", "task_feature_lengths": LENGTHS, "cache_dir": folder}
        records = prepare(task, views, "train", pack=False, **options)
        loader = Loader(records.path, 1, seed=seed, num_epochs=2)
        for _ in range(2):
            seen = [next(loader)["encoder_input_tokens"][0].tobytes() for _ in rows]
            plain = Loader(records.path, 1, seed=0, shuffle=False, num_epochs=1)
            assert sorted(seen) == sorted(batch["encoder_input_tokens"][0].tobytes() for batch in plain)


def test_utf_16_with_its_mark_is_read_and_another_encoding_named(tmp_path):
    for name, source, text in (
        ("rows.jsonl", JsonlSource, json.dumps({"input": "zä", "label": "y"}, ensure_ascii=False) + "\r\n"),
        ("rows.csv", CsvSource, 'input,label\r\n"zä",y\r\n'),
    ):
        path = tmp_path / name
        for encoding in ("utf-16", "utf-8-sig", "utf-8"):
            path.write_bytes(text.encode(encoding))
            read = source({"train": [path]})
            assert [(e.input, e.label) for e in read.examples("train")] == [("zä", "y")]
            assert read.size("train") == 1
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(UserError, match=f"{name}: not UTF-8 text"):
            read.size("train")


def test_files_joined_with_their_marks(tmp_path):
    (tmp_path / "t.jsonl").write_bytes(b'\xef\xbb\xbf{"input": "x", "label": "y"}\n' * 2 + b"\xef\xbb\xbf\n")
    source = JsonlSource({"train": [tmp_path / "t.jsonl"]})
    assert source.size("train") == len(list(source.examples("train"))) == 2


def test_whole_numbers_are_one_label_however_they_are_kept(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(
        [{"id": n, "input": "x", "label": n, "teacher_label": 2.5} for n in (1.0, 2.0)]
    )
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    path = write(tmp_path / "t.jsonl", [{"id": n, "input": "x", "label": n} for n in (1, 2)])
    one, two = ParquetSource({"train": [tmp_path / "t.parquet"]}), JsonlSource({"train": [path]})
    assert [(e.id, e.label) for e in one.examples("train")] == [(e.id, e.label) for e in two.examples("train")]
    assert {e.teacher_label for e in one.examples("train")} == {"2.5"}


def test_a_label_of_minus_one_is_none(tmp_path):
    """As SNLI has it where annotators did not agree: no class of that name, and an error that names the row."""
    path = write(tmp_path / "t.jsonl", [{"input": "x", "label": 0}, {"input": "x", "label": -1}])
    none = r"t.jsonl, line 2: no label .*\(-1 says that there is none: leave such rows out, or name it in --cl"
    with pytest.raises(UserError, match=none):
        list(JsonlSource({"train": [path]}).examples("train"))
    rows = [{"input": "x", "label": 0, "rationale": "r"}, {"input": "x", "label": -1.0, "rationale": "r"}]
    examples = JsonlSource({"train": [write(tmp_path / "u.jsonl", rows)]}).examples("train")
    assert [e.label for e in examples] == ["0", None]
    (tmp_path / "t.csv").write_text("input,label\nx,0.0\ny,-1.0\n")  # where a number is its text
    with pytest.raises(UserError, match=r"t.csv, row 2: no label .*\(-1 says"):
        list(CsvSource({"train": [tmp_path / "t.csv"]}).examples("train"))
    classes = CsvSource({"train": [tmp_path / "t.csv"]}, classes=["-1", "0"]).examples("train")
    assert [e.label for e in classes] == ["0", "-1"]


def test_choices_that_repeat_or_are_numbers(tmp_path):
    rows = [
        {"input": "q", "label": "6", "choices": [6, 5, 6]},
        {"input": "q", "label": "a", "choices": ["a", "b"]},
    ]
    examples = list(JsonlSource({"train": [write(tmp_path / "t.jsonl", rows)]}).examples("train"))
    assert [e.choices for e in examples] == [("6", "5"), ("a", "b")]


def test_a_label_in_another_spelling_has_its_place(tmp_path):
    rows = [
        {"input": "q", "label": label, "label_probs": [0.9, 0.1]}
        for label in ("yes ", "Yes", "yes", "NO", "maybe")
    ]
    examples = JsonlSource({"train": [write(tmp_path / "t.jsonl", rows)]}).examples("train")
    assert [soften(e, ["yes", "no"]).reference for e in examples] == [0, 0, 0, 1, -1]
    assert place_of("Yes", ["yes", "YES"]) == -1 and place_of("YES", ["yes", "YES"]) == 1
    soft = soften(
        next(
            JsonlSource({"t": [write(tmp_path / "c.jsonl", [rows[0] | {"choices": ["yes ", "no"]}])]}).examples(
                "t"
            )
        ),
        None,
    )
    assert soft.reference == 0


def test_files_of_one_stem_have_ids_of_their_own(tmp_path):
    """The answers of a teacher to the training rows are not joined to the validation rows."""
    for name in "ab":
        (tmp_path / name).mkdir()
        write(tmp_path / name / "data.jsonl", [{"input": f"of {name}", "label": "x"}])
    first = content_id("of a", None)
    answers = write(tmp_path / "r.jsonl", [{"id": first, "rationale": "of the train row"}])
    paths = [str(tmp_path / name / "data.jsonl") for name in "ab"]
    task = own.own_task(own.describe(*paths, rationales=answers))
    found = {split: next(task.source.examples(split)) for split in ("train", "validation", "test")}
    other = content_id("of b", None)
    assert [e.id for e in found.values()] == [first, other, other]
    assert [e.rationale for e in found.values()] == ["of the train row", None, None]
    (tmp_path / "moved").mkdir()
    moved = JsonlSource({"train": [write(tmp_path / "moved" / "x.jsonl", [{"input": "of a", "label": "y"}])]})
    assert next(moved.examples("train")).id == first  # in another file, on another line
    assert content_id("of a", ["x"]) != first


@pytest.mark.parametrize("with_input", [True, False])
def test_rows_of_two_files_that_share_an_id_are_told_apart(tmp_path, with_input):
    """By the input that the answer was given to; an answer without is of a training row."""
    splits = ("train", "validation")
    paths = [
        write(tmp_path / f"{split}.jsonl", [{"id": n, "input": f"{split} {n}", "label": "x"} for n in (1, 2)])
        for split in splits
    ]
    answers = [{"id": 1, "input": "train 1", "rationale": "of train"}, {"id": 2, "rationale": "of train"}]
    if with_input:
        answers[1] |= {"input": "validation 2", "rationale": "of validation"}
        answers += [{"id": 1, "input": "validation 1", "rationale": "of validation"}]
    task = own.own_task(own.describe(*paths, rationales=write(tmp_path / "r.jsonl", answers)))
    found = {split: [example.rationale for example in task.source.examples(split)] for split in splits}
    if with_input:
        assert found == {"train": ["of train", None], "validation": ["of validation", "of validation"]}
    else:
        assert found == {"train": ["of train", "of train"], "validation": [None, None]}


def test_an_answer_is_joined_by_id_however_its_input_is_written(tmp_path):
    rows = write(tmp_path / "rows.jsonl", [{"id": n, "input": f"row {n}", "label": "x"} for n in range(20)])
    answers = [{"id": n, "input": f"Q: row {n}", "rationale": f"why {n}"} for n in range(20)]
    task = own.own_task(own.describe(rows, rationales=write(tmp_path / "r.jsonl", answers)))
    for split in ("train", "validation"):
        assert all(e.rationale == f"why {e.id}" for e in task.source.examples(split))


TRAIN = [
    {"id": f"t{n}", "input": f"row {n}", "teacher_label": ("no", "yes")[n % 2], "rationale": "because"}
    | ({} if n % 3 else {"label_probs": [0.7, 0.3]})
    for n in range(12)
]
VALIDATION = [{"id": f"v{n}", "input": f"row {n}", "label": ("no", "yes")[n % 2]} for n in range(4)]


@pytest.mark.parametrize(
    ("method", "views"),
    [
        ("standard", {"label": 0}),
        ("task_distillation", {"label": 0}),
        ("step_by_step", {"label": 0, "rationale": 0}),
        ("step_by_step_shared", {"label": 0, "rationale": 0}),
        ("single_task", {"single_task": 0}),
        ("rationale_input", {"label": 0}),
        ("soft_labels", {"label": 0}),
        ("logit_distillation", {"label": 0, "rationale": 0}),
    ],
)
def test_a_validation_split_of_reference_labels_alone(tmp_path, method, views):
    """Training on the teacher's labels: what a loss would need the teacher for is left out of the records."""
    files = [write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("train", TRAIN), ("val", VALIDATION))]
    description = own.describe(*files, classes=["no", "yes"])
    task, found = registry.resolve(method, "teacher", own_data=description)
    options = {"vocabulary": "bytes", "task_feature_lengths": LENGTHS, "cache_dir": tmp_path}
    assert prepare(task, found, "train", **options).manifest["rows"] > 0
    manifest = prepare(task, found, "validation", **options).manifest
    assert (manifest["rows"], manifest["views"], manifest["examples"]) == (0, views, 4)


def test_rationales_of_the_training_rows_alone(tmp_path):
    rows = [{"id": f"t{n}", "input": f"row {n}", "label": "ab"[n % 2]} for n in range(6)]
    files = [write(tmp_path / "train.jsonl", rows), write(tmp_path / "val.jsonl", VALIDATION)]
    why = write(tmp_path / "why.jsonl", [{"id": row["id"], "rationale": "because"} for row in rows])
    task, views = registry.resolve("step_by_step", own_data=own.describe(*files, rationales=why))
    options = {"vocabulary": "bytes", "task_feature_lengths": LENGTHS, "cache_dir": tmp_path}
    assert prepare(task, views, "train", **options).manifest["views"] == {"label": 6, "rationale": 6}
    assert prepare(task, views, "validation", **options).manifest["views"] == {"label": 4, "rationale": 0}
    other = write(tmp_path / "other.jsonl", [{"id": "v0", "rationale": "because"}])
    task, views = registry.resolve("step_by_step", own_data=own.describe(*files, rationales=other))
    with pytest.raises(UserError, match="none of its 1 ids is in train, whose ids are such as 't5'"):
        prepare(task, views, "train", **options)


def test_a_message_names_the_filter_that_dropped_the_rows(tmp_path):
    rows = [{"input": "a", "label": "x", "teacher_label": "y", "rationale": "short"}] * 3 + [
        {"input": "b", "teacher_label": "y"}
    ]
    task = task_of(write(tmp_path / "t.jsonl", rows))
    options = {"vocabulary": "bytes", "task_feature_lengths": LENGTHS, "cache_dir": tmp_path}

    def message(filters, method="task_distillation"):
        with pytest.raises(UserError) as raised:
            prepare(task, task.views(method), "train", filters=filters, **options)
        return str(raised.value)

    assert message(Filters(agreeing=True)) == (
        "t train: the filters dropped every example: --only-agreeing (ONLY_AGREEING) 3 "
        "(teacher_disagrees), --only-agreeing (ONLY_AGREEING) 1 (no_reference_label); loosen them"
    )
    assert message(Filters(max_words=0), "rationale").endswith(
        "none of the 1 examples has a rationale; the filters dropped --max-rationale-words "
        "(MAX_RATIONALE_WORDS) 3 (rationale_too_long)"
    )


def test_the_key_has_the_classes_and_the_functions_of_the_filter(tmp_path):
    rows = [{"input": f"row {n}", "label_probs": [0.7, 0.2, 0.1]} for n in range(4)]
    path = write(tmp_path / "t.jsonl", rows)
    options = {"vocabulary": "bytes", "task_feature_lengths": LENGTHS, "cache_dir": tmp_path}

    def targets(*classes):
        task = task_of(path, classes=classes)
        records = prepare(task, task.views("soft_labels"), "train", **options)
        import grain

        row = decode_row(grain.sources.ArrayRecordDataSource([str(records.path / "rows.array_record")])[0])
        return (
            bytes(i - 3 for i in row[0].targets if i > 2).decode(),
            np.round(row[0].probs, 1).tolist(),
            records.key,
        )

    one, two = targets("a", "b", "c"), targets("c", "b", "a")
    assert (one[0], two[0]) == ("abc", "cba") and one[2] != two[2]

    def lower(text, example=None, is_target=False):
        return text.lower()

    def key(**changes):
        rows = [
            {"input": "q", "label": "A", "teacher_label": "a"},
            {"input": "r", "label": "B", "teacher_label": "B"},
        ]
        task = task_of(write(tmp_path / "u.jsonl", rows), **changes)
        records = prepare(task, task.views("standard"), "train", filters=Filters(agreeing=True), **options)
        return records.key, records.manifest["examples"]

    (plain, one_left), (lowered, both) = key(), key(label_postprocess_fn=lower)
    assert (one_left, both) == (1, 2) and plain != lowered


def test_labels_of_no_class_are_named(tmp_path, caplog):
    labels = ["yes", *["maybe"] * 3, *["never"] * 2, "so", "no", "so", "so", "so"]
    rows = [{"input": str(n), "label": label, "teacher_label": "yes"} for n, label in enumerate(labels)]
    rows[0]["label_probs"] = [0.9, 0.1]
    task = task_of(write(tmp_path / "t.jsonl", rows), classes=("yes", "no"))
    options = {"vocabulary": "bytes", "task_feature_lengths": LENGTHS, "cache_dir": tmp_path}
    expected = "9 labels are none of the classes or choices: 'so' 4 times, 'maybe' 3 times, 'never' 2 times"
    for method in ("standard", "soft_labels"):
        caplog.clear()
        assert prepare(task, task.views(method), "train", **options).manifest["labels_of_no_class"] == 9
        assert expected in caplog.text
    write(tmp_path / "t.jsonl", [row | {"label": f"{row['label']}{n % 5}"} for n, row in enumerate(rows)])
    prepare(task, task.views("standard"), "train", **options)
    assert caplog.text.strip().endswith("1 times, others 8 times")


def test_soft_labels_need_probabilities(tmp_path, caplog):
    """Training on rows that all lack them is refused, with their number; rows without are counted and told."""
    options = {"vocabulary": "bytes", "task_feature_lengths": LENGTHS, "cache_dir": tmp_path}

    def made(rows):
        task = task_of(write(tmp_path / "t.jsonl", rows), classes=("no", "yes"))
        return prepare(task, task.views("soft_labels"), "train", **options).manifest

    hard = [{name: value for name, value in row.items() if name != "label_probs"} for row in TRAIN]
    with pytest.raises(UserError, match="none of the 12 examples has label_probs.*--logprobs 5.*task_distill"):
        require_label_probs(made(hard))
    require_label_probs(made(TRAIN))
    assert made(TRAIN)["without_label_probs"] == 8
    assert "8 examples have no label_probs: the teacher counts as certain of their label" in caplog.text


def test_what_a_student_cannot_learn_is_counted_and_told(tmp_path, caplog):
    rows = [
        {"input": "one 鯨", "label": "ｙｅｓ", "rationale": "nan"},
        {"input": "two", "label": "yes", "rationale": "None"},
        {"input": "two", "label": "other", "rationale": "because"},
    ]
    plain = task_of(write(tmp_path / "p.jsonl", [row | {"label": "None"} for row in rows]))
    options = {"vocabulary": "bytes", "task_feature_lengths": LENGTHS, "cache_dir": tmp_path}
    assert prepare(plain, plain.views("standard"), "train", **options).manifest["null_labels"] == 3
    assert "3 labels are `nan`, `None` or the like" in caplog.text
    task = task_of(write(tmp_path / "t.jsonl", rows), classes=("ｙｅｓ", "yes"))
    train_vocabulary(["one two other because nan None yes label rationale"] * 3, 320).save(tmp_path / "v")
    options = {"vocabulary": str(tmp_path / "v"), "task_feature_lengths": LENGTHS, "cache_dir": tmp_path}
    manifest = prepare(task, task.views("step_by_step"), "train", **options).manifest
    assert (manifest["null_rationales"], manifest["labels_of_no_class"]) == (2, 1)
    assert manifest["equal_labels"] == [["ｙｅｓ", "yes"]]  # SentencePiece's NFKC writes both alike
    for part in (
        "2 rationales are `nan`",
        "1 labels are none of the classes or choices: 'other' 1 times",
        "'ｙｅｓ' and 'yes' have the same tokens",
    ):
        assert any(part in message and message.startswith("warning: t train: ") for message in caplog.messages)


def test_classes_as_a_command_line_has_them(tmp_path):
    path = write(tmp_path / "t.jsonl", VALIDATION)
    assert own.describe(path, classes="billing, shipping,other,".split(","))["classes"] == [
        *("billing", "shipping", "other")
    ]
    assert own.describe(path, classes=[" "])["classes"] is None
    with pytest.raises(UserError, match="class 'a' is named twice"):
        own.describe(path, classes=["a", "a "])


def test_two_columns_of_one_name(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "t.csv").write_text("input,label,label\nx,a,b\n")
    arrays = [pyarrow.array([text]) for text in "xab"]
    table = pyarrow.Table.from_arrays(arrays, ["input", "label", "label"])
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    for source in (CsvSource, ParquetSource):
        path = next(tmp_path.glob(f"*{'.csv' if source is CsvSource else '.parquet'}"))
        with pytest.raises(UserError, match="two columns are named 'label': rename one of them"):
            list(source({"train": [path]}).examples("train"))
