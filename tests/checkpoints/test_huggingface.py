import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from distill_jax.checkpoints.other_formats.huggingface import read_huggingface, write_huggingface
from distill_jax.checkpoints.other_formats.parameters import from_tree
from distill_jax.errors import UserError

KINDS = ("1.0", "1.1", "gated and tied", "UL2")
QUERY = "encoder.block.1.layer.0.SelfAttention.q.weight"


@pytest.fixture
def saved(make_student, tmp_path):
    config, params = make_student("1.1")
    write_huggingface(tmp_path, from_tree(params), config)
    return tmp_path, config, params


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shard_bytes", [10**9, 3000])
def test_the_round_trip_is_exact(make_student, assert_same, tmp_path, kind, shard_bytes):
    config, params = make_student(kind)
    write_huggingface(tmp_path, from_tree(params), config, shard_bytes=shard_bytes)
    loaded, loaded_config = read_huggingface(tmp_path)
    assert loaded_config == config
    assert_same(loaded, params)


def test_the_files_are_those_of_the_library(saved):
    folder, _, params = saved
    tensors = load_file(folder / "model.safetensors")
    query = params["encoder"]["layers_1"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(tensors[QUERY], query.T)
    np.testing.assert_array_equal(tensors["shared.weight"], params["token_embedder"]["embedding"])


def test_shards_stay_below_the_limit_and_the_index_says_where_each_tensor_is(make_student, tmp_path):
    config, params = make_student()
    write_huggingface(tmp_path, from_tree(params), config, shard_bytes=9000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2 and shards[0].name == f"model-00001-of-{len(shards):05}.safetensors"
    held = {name: path.name for path in shards for name in load_file(path)}
    assert held == index["weight_map"]
    total = sum(array.nbytes for path in shards for array in load_file(path).values())
    assert index["metadata"]["total_size"] == total
    assert all(sum(array.nbytes for array in load_file(path).values()) <= 9000 for path in shards)


def test_half_precision_is_stored_and_read_as_float32(make_student, tmp_path):
    config, params = make_student()
    write_huggingface(tmp_path, from_tree(params), config, "bfloat16")
    assert {a.dtype for a in load_file(tmp_path / "model.safetensors").values()} == {
        np.dtype(ml_dtypes.bfloat16)
    }
    found = read_huggingface(tmp_path)[0]["token_embedder/embedding"].read()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, params["token_embedder"]["embedding"], rtol=1e-2)


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_the_embedding_may_have_another_of_its_names(saved, assert_same, name):
    folder, _, params = saved
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = tensors.pop("shared.weight")
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = np.zeros((32, 2), "f4")
    save_file(tensors, folder / "model.safetensors")
    assert_same(read_huggingface(folder)[0], params)


def test_untied_models_as_transformers_5_saves_them(saved, assert_same):
    folder, config, params = saved
    edit_config(folder, tie_word_embeddings=True, scale_decoder_outputs=False)
    loaded, loaded_config = read_huggingface(folder)
    assert loaded_config == config
    assert_same(loaded, params)
    # mT5 says nothing of scaling: the tensor tells.
    edit_config(folder, scale_decoder_outputs=..., model_type="mt5")
    assert read_huggingface(folder)[1] == config
    # Tied without scaling: the logits' kernel is the embedding.
    edit_config(folder, scale_decoder_outputs=False)
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    kernel = read_huggingface(folder)[0]["decoder/logits_dense/kernel"].read()
    np.testing.assert_array_equal(kernel, params["token_embedder"]["embedding"].T)


def test_a_missing_a_misshapen_and_an_unknown_parameter_are_named(saved):
    folder, _, _ = saved
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != QUERY}, path)
    with pytest.raises(
        UserError, match=rf"no parameter encoder/layers_1/attention/query/kernel \({QUERY} there\)"
    ):
        read_huggingface(folder)
    save_file({**tensors, QUERY: np.zeros((3, 5), np.float32)}, path)
    with pytest.raises(
        UserError, match=rf"{QUERY} there\) has shape \[5, 3\], config.json asks for \[16, 24\]"
    ):
        read_huggingface(folder)
    bias = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
    save_file({**tensors, bias: np.zeros((32, 2), np.float32)}, path)
    with pytest.raises(UserError, match=rf"{bias} of shape \[32, 2\] is unknown to config.json"):
        read_huggingface(folder)
    save_file({**tensors, QUERY: np.zeros((24, 16), np.int8)}, path)
    with pytest.raises(UserError, match=rf"{QUERY} is stored as I8, expected floats"):
        read_huggingface(folder)


def test_another_size_than_config_json_says_is_named(saved):
    folder, _, _ = saved
    edit_config(folder, vocab_size=64)
    with pytest.raises(UserError, match=r"\[16, 48\], config.json asks for \[16, 64\]"):
        read_huggingface(folder)


@pytest.mark.parametrize("shard_bytes", [10**9, 9000])
def test_a_cut_file_names_the_first_parameter_it_lacks(make_student, tmp_path, shard_bytes):
    config, params = make_student()
    write_huggingface(tmp_path, from_tree(params), config, shard_bytes=shard_bytes)
    path = sorted(tmp_path.glob("*.safetensors"))[-1]
    last = list(from_tree(params))[-1]
    assert last == "token_embedder/embedding"
    path.write_bytes(path.read_bytes()[:-100])
    message = r"not a whole .* shared.weight of shape \[48, 16\] should have 3072 bytes, there are 2972"
    with pytest.raises(UserError, match=message):
        read_huggingface(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        read_huggingface(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="no such file|no model.safetensors"):
        read_huggingface(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_a_pickle_is_refused_with_the_way_to_convert_it_and_never_opened(saved, name):
    folder, _, _ = saved
    (folder / "model.safetensors").unlink()
    (folder / name).symlink_to("/dev/full" if name == "model.pt" else folder / "nowhere")
    with pytest.raises(UserError, match=rf"{name}: a pickle can run code.*save_pretrained\('safetensors'\)"):
        read_huggingface(folder)


def test_an_index_cannot_lead_to_a_pickle_or_out_of_the_folder(saved):
    folder, _, _ = saved
    index = folder / "model.safetensors.index.json"
    for name in ("pytorch_model.bin", "../model.safetensors", "/etc/a.safetensors"):
        index.write_text(json.dumps({"weight_map": {"shared.weight": name}}))
        with pytest.raises(UserError, match="is not a safetensors file beside it"):
            read_huggingface(folder)
    index.write_text("[]")
    with pytest.raises(UserError, match="not an index"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "expected the model_type t5, mt5.*, found 'bert'"),
        ({"feed_forward_proj": "gated-tanh"}, "feed_forward_proj 'gated-tanh' is none of relu"),
        (
            {"relative_attention_max_distance": 64},
            "relative_attention_max_distance is 64, this T5 can only have 128",
        ),
        ({"d_kv": ...}, "not the config of a T5: KeyError"),
        ({"num_layers": "six"}, "not the config of a T5: ValueError"),
    ],
)
def test_another_architecture_is_refused(saved, changes, message):
    folder, _, _ = saved
    edit_config(folder, **changes)
    with pytest.raises(UserError, match=message):
        read_huggingface(folder)


def test_a_config_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="config.json: no such file"):
        read_huggingface(tmp_path)
    for text in ("{", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match="not the config of a model"):
            read_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lm_head.weight", "1.0"),
        ("encoder.embed_tokens.weight", "1.0"),
        ("decoder.embed_tokens.weight", "1.1"),
    ],
)
def test_a_copy_of_the_embedding_that_is_none_is_named(make_student, assert_same, tmp_path, name, kind):
    config, params = make_student(kind)
    write_huggingface(tmp_path, from_tree(params), config)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, name: tensors["shared.weight"]}, tmp_path / "model.safetensors")
    assert_same(read_huggingface(tmp_path)[0], params)
    save_file({**tensors, name: tensors["shared.weight"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(
        UserError, match=f"{name} differs from shared.weight, which this architecture has in its place"
    ):
        read_huggingface(tmp_path)


def test_the_exact_gelu_is_refused(make_student, tmp_path):
    config, params = make_student("1.0", mlp_activations=("gelu",))
    write_huggingface(tmp_path, from_tree(params), config)
    assert read_huggingface(tmp_path)[1] == config
    edit_config(tmp_path, feed_forward_proj="gelu")
    with pytest.raises(UserError, match="'gelu' is none of .*our GELU is gelu_new, the tanh approximation"):
        read_huggingface(tmp_path)
