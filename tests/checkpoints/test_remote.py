import json
import shutil

import fsspec
import numpy as np
import pytest

from distill_jax.checkpoints import remote
from distill_jax.checkpoints.convert import convert
from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
from distill_jax.checkpoints.other_formats.parameters import from_tree
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.config import ConvertConfig
from distill_jax.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "downloads"


@pytest.fixture
def bucket():
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    return memory


def upload(bucket, folder, url):
    bucket.put(f"{folder}/", f"{url}/", recursive=True)


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_t5x_checkpoint_in_a_bucket_without_its_optimizer(
    make_student, make_legacy, assert_same, tmp_path, bucket, cache, ending
):
    _, params = make_student("UL2")
    folder = make_legacy(tmp_path / "checkpoint_3", params, driver="gcs")
    (folder / "state.param_states.big").mkdir()
    (folder / "state.param_states.big" / "0").write_text("heavy")
    (folder / "train_ds-000-of-001").write_text("heavy")
    upload(bucket, folder, "/models/xl/checkpoint_3")
    bucket.pipe("/models/xl/config.gin", b"network.T5Config.mlp_activations = ('silu', 'linear')\n")
    checkpoint = open_checkpoint(f"memory://models/xl/checkpoint_3{ending}")
    assert_same(checkpoint.parameters, params)
    assert (checkpoint.format, checkpoint.step) == ("t5x", 3)
    assert checkpoint.model_config().mlp_activations == ("silu", "linear")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.read_bytes() == b"heavy"]


def test_it_is_fetched_once(make_student, make_orbax, tmp_path, bucket, monkeypatch):
    _, params = make_student()
    upload(bucket, make_orbax(tmp_path, params, ocdbt=True), "/run/checkpoint_3")
    fetched = []
    get_file = type(bucket).get_file
    monkeypatch.setattr(
        type(bucket), "get_file", lambda self, *a, **k: fetched.append(a) or get_file(self, *a, **k)
    )
    open_checkpoint("memory://run/checkpoint_3")
    count = len(fetched)
    assert count
    open_checkpoint("memory://run/checkpoint_3")
    assert len(fetched) == count


def test_of_a_run_only_the_checkpoint_that_is_wanted_is_fetched(
    make_student, make_legacy, tmp_path, bucket, cache
):
    for step in (3, 20):
        _, params = make_student(vocab_size=step)
        upload(bucket, make_legacy(tmp_path / f"checkpoint_{step}", params), f"/run/checkpoint_{step}")
    assert open_checkpoint("memory://run").step == 20
    assert {path.name for path in cache.glob("*/run/*")} == {"checkpoint_20"}
    assert open_checkpoint("memory://run", 3).parameters["token_embedder/embedding"].shape == (3, 16)


def test_our_run_in_a_bucket(make_student, make_legacy, assert_same, tmp_path, bucket):
    _, params = make_student()
    convert(
        ConvertConfig(
            source=str(make_legacy(tmp_path / "checkpoint_3", params)),
            destination=str(tmp_path / "ours"),
            to="distill-jax",
        )
    )
    upload(bucket, tmp_path / "ours", "/run")
    for path in ("memory://run", "memory://run/checkpoints/3"):
        checkpoint = open_checkpoint(path)
        assert checkpoint.format == "distill-jax" and checkpoint.step == 3
        assert_same(checkpoint.parameters, params)


def test_an_export_in_a_bucket_brings_its_run(make_student, tmp_path, bucket):
    config, params = make_student("UL2", vocab_size=384)
    write_huggingface(tmp_path / "hf", from_tree(params), config)
    task = {"task": "svamp_step_by_step", "vocabulary": "bytes"}
    convert(
        ConvertConfig(
            source=str(tmp_path / "hf"), destination=str(tmp_path / "ours"), to="distill-jax", step=2, **task
        )
    )
    convert(ConvertConfig(source=str(tmp_path / "ours"), destination=str(tmp_path / "t5x"), to="t5x"))
    upload(bucket, tmp_path / "t5x", "/export")
    for path in ("memory://export", "memory://export/checkpoint_2"):
        checkpoint = open_checkpoint(path)
        assert checkpoint.run().mixture_or_task_name == "svamp_step_by_step"
        assert checkpoint.vocabulary().fingerprint == "bytes"
        assert checkpoint.model_config() == config


def test_a_hugging_face_folder_in_a_bucket(make_student, assert_same, tmp_path, bucket, cache):
    config, params = make_student()
    write_huggingface(tmp_path / "hf", from_tree(params), config)
    (tmp_path / "hf" / "pytorch_model.bin").write_text("heavy")
    upload(bucket, tmp_path / "hf", "/hf")
    assert_same(open_checkpoint("memory://hf").parameters, params)
    assert not list(cache.rglob("*.bin"))
    bucket.rm("/hf/model.safetensors")
    with pytest.raises(UserError, match=r"pytorch_model.bin: a pickle can run code"):
        open_checkpoint("memory://hf")


def test_what_cannot_be_fetched_is_one_line(bucket):
    with pytest.raises(UserError, match="memory://nowhere: there is nothing there"):
        open_checkpoint("memory://nowhere")
    with pytest.raises(UserError, match="nosuch://a/b: cannot be fetched: .*nosuch"):
        open_checkpoint("nosuch://a/b")
    with pytest.raises(UserError, match="expected hf://ORG/NAME"):
        open_checkpoint("hf://t5-small/a/b")


def test_a_fetch_that_fails_leaves_nothing(make_student, make_legacy, tmp_path, bucket, cache, monkeypatch):
    upload(bucket, make_legacy(tmp_path / "checkpoint_3", make_student()[1]), "/checkpoint_3")

    def broken(self, path, target, **kwargs):
        if path.endswith("wo.kernel/0.0"):
            raise ValueError("connection reset")
        shutil.copyfileobj(self.open(path), open(target, "wb"))

    monkeypatch.setattr(type(bucket), "get_file", broken)
    with pytest.raises(UserError, match="cannot be fetched: connection reset"):
        open_checkpoint("memory://checkpoint_3")
    assert not any(cache.iterdir())


def test_the_wanted_files():
    names = ["checkpoint_1/checkpoint", "checkpoint_12/checkpoint", "checkpoint_12/state.step/0", "run.json"]
    assert remote._wanted(names, None) == ["checkpoint_12/checkpoint", "run.json"]
    assert remote._wanted(names, 1) == ["checkpoint_1/checkpoint", "run.json"]
    assert np.all([remote.is_remote("gs://a/b"), not remote.is_remote("/a/b")])


def test_weights_that_were_overwritten_in_place_are_fetched_anew(make_student, tmp_path, bucket, cache):
    config, params = make_student()
    write_huggingface(tmp_path / "hf", from_tree(params), config)
    upload(bucket, tmp_path / "hf", "/hf")
    name = "decoder/logits_dense/kernel"
    before = open_checkpoint("memory://hf").parameters[name].read()
    params["decoder"]["logits_dense"]["kernel"] += 1  # the same names and sizes
    write_huggingface(tmp_path / "hf", from_tree(params), config)
    upload(bucket, tmp_path / "hf", "/hf")
    np.testing.assert_array_equal(open_checkpoint("memory://hf").parameters[name].read(), before + 1)
    assert len(list(cache.iterdir())) == 2


def test_the_best_step_of_a_run_in_a_bucket(make_student, make_legacy, tmp_path, bucket):
    for step in (3, 20):
        source = make_legacy(tmp_path / f"checkpoint_{step}", make_student()[1])
        convert(ConvertConfig(source=str(source), destination=str(tmp_path / str(step)), to="distill-jax"))
        upload(bucket, tmp_path / str(step), "/run")
    with pytest.raises(UserError, match="memory://run: no checkpoint has a validation score"):
        open_checkpoint("memory://run", "best")
    scores = {"metric": "label_accuracy", "mode": "max", "by_step": {"3": 0.5, "20": 0.2}}
    bucket.pipe("/run/scores.json", json.dumps(scores).encode())
    assert [open_checkpoint("memory://run", step).step for step in ("best", "latest", "20")] == [3, 20, 20]


@pytest.fixture
def uploaded(make_student, make_legacy, tmp_path, bucket):
    """A run of ours in a bucket; the path of the largest file of its checkpoint, and the parameters."""
    _, params = make_student()
    source = make_legacy(tmp_path / "checkpoint_3", params)
    convert(ConvertConfig(source=str(source), destination=str(tmp_path / "ours"), to="distill-jax"))
    upload(bucket, tmp_path / "ours", "/run")
    files = bucket.find("/run/checkpoints/3/state", detail=True)
    return max(files, key=lambda path: files[path]["size"]), params


def test_damage_in_a_bucket_is_told_of_and_not_kept(uploaded, bucket, cache):
    path, _ = uploaded
    bucket.pipe(path, bucket.cat_file(path)[:-1])
    place = path.removeprefix("/run/")
    with pytest.raises(
        UserError, match=rf"memory://run: run/{place} \(changed\): damaged there, or on the way"
    ):
        open_checkpoint("memory://run")
    assert not list(cache.iterdir())


def test_a_damaged_copy_is_fetched_anew(uploaded, cache, assert_same, caplog):
    path, params = uploaded
    open_checkpoint("memory://run")
    (copy,) = cache.glob(f"*{path}")
    copy.write_bytes(copy.read_bytes()[:-1])
    assert_same(open_checkpoint("memory://run").parameters, params)
    assert "it is made anew" in caplog.text
