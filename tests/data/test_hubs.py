"""Sets of hubs, made here: nothing is fetched."""

import json

import pytest

from distill_jax.data import originals
from distill_jax.data.schema import Example
from distill_jax.data.sources import HuggingFaceSource, SeqioSource, TfdsSource
from distill_jax.errors import UserError
from distill_jax.tasks import own, registry

CLASSES = ("entailment", "neutral", "contradiction")
NLI = {"input": "{premise}</s>{hypothesis}"}


def rows(count):
    return [{"premise": f"p {n}", "hypothesis": f"h {n}", "label": n % 3} for n in range(count)]


@pytest.fixture
def huggingface(tmp_path):
    """A folder of Parquet files with their features, as the hub keeps sets."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=CLASSES),
        }
    )
    for split, count in (("train", 20), ("validation", 3), ("test", 4)):
        path = tmp_path / "set" / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        datasets.Dataset.from_list(rows(count), features=features).to_parquet(path)
    return str(tmp_path / "set")


def test_hugging_face(huggingface):
    source = HuggingFaceSource(huggingface, NLI)
    assert source.splits == ("train", "validation", "test")
    found = list(source.examples("validation"))
    assert found[2] == Example("validation-2", "p 2</s>h 2", "contradiction")
    assert source.size("validation") == len(found) == 3
    assert source.where("validation", 2) == f"hf:{huggingface}, validation, row 3"
    again = HuggingFaceSource(huggingface, NLI)
    assert again.fingerprint("test") == source.fingerprint("test") != source.fingerprint("train")


def test_a_row_without_a_class_has_no_label(tmp_path):
    """As SNLI has 785 of them among its training rows."""
    datasets = pytest.importorskip("datasets")
    label = {"label": datasets.ClassLabel(names=CLASSES)}
    features = datasets.Features({"input": datasets.Value("string")} | label)
    rows = [{"input": "a", "label": 2}, {"input": "b", "label": -1}]
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    found = HuggingFaceSource(str(tmp_path / "set"), needs_target=False).examples("train")
    assert [example.label for example in found] == ["contradiction", None]
    with pytest.raises(UserError, match="train, row 2: no label .*-1 says that there is none"):
        list(HuggingFaceSource(str(tmp_path / "set")).examples("train"))


def test_hugging_face_as_own_data(huggingface):
    description = own.describe(f"hf:{huggingface}", "test", columns=NLI, classes=list(CLASSES))
    task = own.own_task(description)
    assert [task.source.size(split) for split in ("train", "validation", "test")] == [20, 4, 4]


def test_splits_that_are_not_there(huggingface):
    with pytest.raises(UserError, match="has no split 'dev': train"):
        _ = HuggingFaceSource(huggingface, NLI, {"train": "train", "validation": "dev"}).splits
    with pytest.raises(UserError, match="hf:/no/such: cannot be had"):
        _ = HuggingFaceSource("/no/such").splits


def test_original_in_the_papers_layout(huggingface, tmp_path, monkeypatch):
    counts = originals.import_original("esnli", f"hf:{huggingface}", str(tmp_path / "data"))
    assert counts == {"train": 20, "valid": 3, "test": 4}
    lines = (tmp_path / "data/esnli/esnli_valid.json").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows(3)
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(tmp_path / "data"))
    source = registry.get_task("esnli").source
    with pytest.raises(UserError, match="--teacher none does without"):
        next(source.examples("train"))
    monkeypatch.setenv("DISTILL_JAX_TEACHER", "none")
    assert list(source.examples("validation"))[2].label == "contradiction"
    with pytest.raises(UserError, match="is there already"):
        originals.import_original("esnli", "hf", str(tmp_path / "data"))
    with pytest.raises(UserError, match="expected hf or tfds"):
        originals.import_original("anli1", "ftp", str(tmp_path / "data"))
    with pytest.raises(UserError, match="no original of 'snli'"):
        originals.import_original("snli", "hf", str(tmp_path / "data"))


@pytest.mark.slow
def test_tensorflow_datasets(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    class SomeNli(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"context": tfds.features.Text(), "hypothesis": tfds.features.Text()}
            features["label"] = tfds.features.ClassLabel(names=CLASSES)
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples(12), "test": self._generate_examples(3)}

        def _generate_examples(self, count):
            for n, row in enumerate(rows(count)):
                yield n, {"context": row["premise"], "hypothesis": row["hypothesis"], "label": row["label"]}

    builder = SomeNli(data_dir=str(tmp_path))
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    source = TfdsSource("some_nli", {"input": "{context}</s>{hypothesis}"})
    assert source.splits == ("train", "test")
    found = sorted(source.examples("test"), key=lambda example: example.input)
    assert [e.label for e in found] == list(CLASSES) and found[1].input == "p 1</s>h 1"
    assert source.size("train") == 12
    monkeypatch.setattr(
        originals,
        "ORIGINALS",
        {"anli1": originals.ORIGINALS["anli1"]._replace(splits={"tfds": {"train": "train"}})},
    )
    originals.import_original("anli1", "tfds", str(tmp_path / "data"))
    lines = (tmp_path / "data/anli1/anli1_train.json").read_text().splitlines()
    assert sorted(json.loads(line)["premise"] for line in lines) == sorted(f"p {n}" for n in range(12))


@pytest.mark.slow
def test_seqio_task(monkeypatch):
    seqio = pytest.importorskip("seqio")
    tf = pytest.importorskip("tensorflow")
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", dict(seqio.TaskRegistry._REGISTRY))

    def dataset(split, shuffle_files, seed=None):
        count = {"train": 5, "validation": 2}[split]
        texts = [f"{split} {n}" for n in range(count)]
        return tf.data.Dataset.from_tensor_slices({"inputs": texts, "targets": [f"t{n}" for n in range(count)]})

    def add(name, preprocessors):
        features = {f: seqio.Feature(seqio.ByteVocabulary()) for f in ("inputs", "targets")}
        source = seqio.FunctionDataSource(dataset, splits=("train", "validation"))
        seqio.TaskRegistry.add(name, source=source, preprocessors=preprocessors, output_features=features)

    add("some_task", [seqio.preprocessors.tokenize, seqio.preprocessors.append_eos])
    add(
        "ids_only",
        [
            lambda ds: seqio.preprocessors.tokenize(
                ds,
                {f: seqio.Feature(seqio.ByteVocabulary()) for f in ("inputs", "targets")},
                copy_pretokenized=False,
            )
        ],
    )
    for name in ("some_task", "ids_only"):
        source = SeqioSource(name)
        assert source.splits == ("train", "validation")
        assert list(source.examples("validation")) == [
            Example("validation-0", "validation 0", "t0"),
            Example("validation-1", "validation 1", "t1"),
        ]
        assert source.size("train") == 5
    with pytest.raises(UserError, match="seqio:no_task: no such SeqIO task"):
        _ = SeqioSource("no_task").splits
