import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from distill_jax.checkpoints import run_dir
from distill_jax.checkpoints.convert import convert
from distill_jax.checkpoints.orbax import Checkpointer
from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
from distill_jax.checkpoints.other_formats.parameters import from_tree, to_tree
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.config import ConvertConfig
from distill_jax.data.vocabularies import ByteVocabulary, train_vocabulary
from distill_jax.errors import UserError
from distill_jax.models.t5 import Transformer
from distill_jax.training import initial, optimizers, train_state


def make_run(folder, config, params, steps=(4,)):
    """A run's folder as training leaves it."""
    run = run_dir.Run(
        mixture_or_task_name="svamp_step_by_step",
        label_source="reference",
        module=None,
        task_feature_lengths={"inputs": 64, "targets": 32},
        vocabulary="bytes",
        data="some records",
        model=dataclasses.asdict(config),
        batch_size=4,
        seed=0,
        view_weights={"label": 0.5, "rationale": 0.5},
    )
    run_dir.claim(str(folder), run)
    ByteVocabulary().save(folder)
    checkpointer = Checkpointer(str(folder), keep=None, keep_best=0)
    state = train_state.create(jax.tree.map(jax.numpy.asarray, params), optimizers.adamw(learning_rate=1e-3))
    for step in steps:
        checkpointer.save(dataclasses.replace(state, step=np.int32(step)), {})
    checkpointer.close()


@pytest.fixture(scope="module")
def formats(make_student, make_legacy, make_orbax, tmp_path_factory):
    """The same student in every format; a path for each."""
    tmp_path = tmp_path_factory.mktemp("formats")
    config, params = make_student(vocab_size=288)
    scanned = dataclasses.replace(config, scan_layers=True)
    make_run(tmp_path / "run", config, params, steps=(4, 11))
    make_run(tmp_path / "scanned", scanned, to_tree(from_tree(params), scan_layers=True))
    (tmp_path / "t5x").mkdir()
    make_legacy(tmp_path / "t5x" / "checkpoint_3", params)
    make_orbax(tmp_path / "orbax", params, ocdbt=True)
    make_orbax(tmp_path / "zarr", params, ocdbt=False)
    write_huggingface(tmp_path / "hf", from_tree(params), config)
    return tmp_path, config, params


PATHS = {
    "run": ("distill-jax", 11),
    "run/checkpoints/4": ("distill-jax", 4),
    "scanned": ("distill-jax", 4),
    "t5x": ("t5x", 3),
    "t5x/checkpoint_3": ("t5x", 3),
    "t5x/checkpoint_3/checkpoint": ("t5x", 3),
    "orbax": ("t5x-orbax", 3),
    "orbax/checkpoint_3/state": ("t5x-orbax", 3),
    "zarr/checkpoint_3": ("t5x-orbax", 3),
    "hf": ("huggingface", 0),
    "hf/model.safetensors": ("huggingface", 0),
}


def test_the_format_is_found_out_and_training_starts_from_any(formats, assert_same):
    folder, config, params = formats
    models = [Transformer(dataclasses.replace(config, scan_layers=scan)) for scan in (False, True)]
    for number, (path, (name, step)) in enumerate(PATHS.items()):
        checkpoint = open_checkpoint(str(folder / path))
        assert (checkpoint.format, checkpoint.step) == (name, step), path
        assert checkpoint.model_config() == config
        assert_same(checkpoint.parameters, params)
        model = models[number % 2]
        started = initial.initial_params(model, open_checkpoint(str(folder / path)), ByteVocabulary())
        assert_same(from_tree(jax.device_get(started)), params)


def test_the_vocabulary_of_a_run_and_of_a_hugging_face_folder(formats, tmp_path):
    folder, _, _ = formats
    assert open_checkpoint(str(folder / "run")).vocabulary().fingerprint == "bytes"
    assert open_checkpoint(str(folder / "hf")).vocabulary() is None
    assert open_checkpoint(str(folder / "t5x")).vocabulary() is None
    convert(ConvertConfig(source=str(folder / "run"), destination=str(tmp_path / "out"), to="huggingface"))
    assert open_checkpoint(str(tmp_path / "out")).vocabulary().fingerprint == "bytes"


def test_a_checkpoint_of_another_architecture_than_the_gin_file_names_the_parameter(formats):
    folder, config, _ = formats
    deeper = Transformer(dataclasses.replace(config, num_encoder_layers=4))
    wider = Transformer(dataclasses.replace(config, mlp_dim=32))
    for path in ("run", "t5x", "orbax", "hf"):
        with pytest.raises(
            UserError, match=r"no parameter encoder/layers_3/\S+: the model's gin file asks for"
        ):
            initial.initial_params(deeper, open_checkpoint(str(folder / path)), ByteVocabulary())
        with pytest.raises(
            UserError, match=r"mlp/wi_0/kernel has shape \[16, 24\], the model's gin file asks for \[16, 32\]"
        ):
            initial.initial_params(wider, open_checkpoint(str(folder / path)), ByteVocabulary())


def test_a_run_whose_checkpoint_is_not_its_own_is_refused(formats, tmp_path):
    shutil.copytree(formats[0] / "run", tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    run = json.loads(path.read_text())
    run["model"]["num_heads"] = 4
    path.write_text(json.dumps(run))
    with pytest.raises(UserError, match=r"parameter \S+ has shape .*run.json asks for"):
        open_checkpoint(str(tmp_path / "run"))


def test_a_step_that_is_not_there_names_those_that_are(formats):
    folder, _, _ = formats
    with pytest.raises(UserError, match=r"no checkpoint of step 5; there are \[4, 11\]"):
        open_checkpoint(str(folder / "run"), 5)
    with pytest.raises(UserError, match=r"no checkpoint of step 5; there are \[3\]"):
        open_checkpoint(str(folder / "t5x"), 5)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder: expected a run of ours"):
        open_checkpoint(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no checkpoint in there: expected a run of ours"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "x.pkl"])
def test_a_pickle_is_refused_whether_it_is_named_or_found(tmp_path, name):
    class Attack:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    import pickle

    (tmp_path / name).write_bytes(pickle.dumps(Attack()))
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(
            UserError, match=f"{name}: a pickle can run code and is not read; .*save_pretrained"
        ):
            open_checkpoint(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("gin", "expected"),
    [
        ("network.T5Config.mlp_activations = ('silu', 'linear')", ("silu", "linear")),
        ('t5.network.T5Config.mlp_activations = ["silu", "linear"]\n', ("silu", "linear")),
        ("T5Config.mlp_activations = (\n  'silu',\n  'linear')", ("silu", "linear")),
        ("network.T5Config.dropout_rate = 0.1", ("gelu", "linear")),
    ],
)
def test_t5x_says_the_activation_in_config_gin(make_student, make_legacy, tmp_path, gin, expected):
    make_legacy(tmp_path / "checkpoint_3", make_student()[1])
    (tmp_path / "config.gin").write_text(gin)
    assert open_checkpoint(str(tmp_path)).model_config().mlp_activations == expected
    assert open_checkpoint(str(tmp_path)).model_config(("relu", "linear")).mlp_activations == ("relu", "linear")


def test_a_teacher_may_be_of_any_format_and_must_share_the_vocabulary(formats, assert_same):
    folder, config, params = formats

    class Words(ByteVocabulary):
        vocab_size = 40

    class MoreWords(ByteVocabulary):
        vocab_size = 300

    for path in ("run", "t5x", "orbax", "hf"):
        model, teacher = initial.load_teacher(str(folder / path), Words())
        assert model.config == config
        assert_same(from_tree(teacher), params)
        if path != "run":
            with pytest.raises(UserError, match="has 288 ids, the student's vocabulary 300"):
                initial.load_teacher(str(folder / path), MoreWords())
    with pytest.raises(
        UserError, match="was trained with the vocabulary bytes, the student's is sentencepiece"
    ):
        initial.load_teacher(str(folder / "run"), train_vocabulary(["a b c"] * 9, 300))


def test_a_git_lfs_pointer_is_named(formats, tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1234\n"
    for name in ("config.json", "model.safetensors", "spiece.model"):
        folder = tmp_path / name
        shutil.copytree(formats[0] / "hf", folder)
        (folder / name).write_text(pointer)
        with pytest.raises(UserError, match=f"{name}: a Git LFS pointer, not the file itself: run git"):
            open_checkpoint(str(folder))


def test_a_lora_adapter_is_named_with_its_base(formats, tmp_path):
    from safetensors.numpy import load_file, save_file

    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "google/flan-t5-base"}')
    (tmp_path / "adapter_model.safetensors").write_text("")
    message = "a LoRA adapter of google/flan-t5-base, not a whole model: merge it first"
    with pytest.raises(UserError, match=message):
        open_checkpoint(str(tmp_path))
    shutil.copy(formats[0] / "hf" / "config.json", tmp_path)  # as some tools put it beside
    with pytest.raises(UserError, match=message):
        open_checkpoint(str(tmp_path))
    shutil.copytree(formats[0] / "hf", tmp_path / "mixed")
    tensors = load_file(tmp_path / "mixed" / "model.safetensors")
    tensors["encoder.block.0.layer.0.SelfAttention.q.lora_A.weight"] = np.zeros((4, 16), np.float32)
    save_file(tensors, tmp_path / "mixed" / "model.safetensors")
    with pytest.raises(UserError, match="a LoRA adapter of another model"):
        open_checkpoint(str(tmp_path / "mixed"))


@pytest.mark.parametrize("layers", ["layers_0", "layers", "encoder"])
def test_t5x_s_scalable_t5_is_named(make_student, make_orbax, tmp_path, layers):
    params = make_student()[1]
    params["encoder"][layers] = {
        **params["encoder"].get(layers, {}),
        "relpos_bias": params["encoder"]["relpos_bias"],
    }
    make_orbax(tmp_path, params, ocdbt=True)
    with pytest.raises(UserError, match=f"scalable_t5, with a position bias in each layer .encoder/{layers}/"):
        open_checkpoint(str(tmp_path))


def test_training_does_not_start_from_a_run_with_another_vocabulary(formats, tmp_path):
    folder, config, _ = formats
    words = train_vocabulary(["a b c"] * 9, 300)
    with pytest.raises(
        UserError,
        match=r"--init \(INITIAL_CHECKPOINT_PATH\) .*run: was trained with the vocabulary bytes, .* leave --",
    ):
        initial.initial_params(Transformer(config), open_checkpoint(str(folder / "run")), words)
