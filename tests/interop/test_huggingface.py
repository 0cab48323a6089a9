import json

import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from distill_jax.errors import UserError
from distill_jax.interop.huggingface import load_huggingface, save_huggingface
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import train_state

KINDS = {
    "1.0": {"mlp_activations": ("relu",), "logits_via_embedding": True},
    "1.1": {"mlp_activations": ("gelu", "linear"), "logits_via_embedding": False},
}


def student(kind):
    config = T5Config(
        vocab_size=48,
        emb_dim=16,
        num_heads=2,
        num_encoder_layers=2,
        num_decoder_layers=1,
        head_dim=12,
        mlp_dim=24,
        dropout_rate=0.0,
        **KINDS[kind],
    )
    return config, train_state.init_params(Transformer(config), 1)


@pytest.fixture(params=list(KINDS))
def saved(request, tmp_path):
    config, params = student(request.param)
    save_huggingface(tmp_path, params, config)
    return tmp_path, config, params


def test_the_round_trip_is_exact(saved):
    folder, config, params = saved
    loaded, loaded_config = load_huggingface(folder)
    assert loaded_config == config
    assert traverse_util.flatten_dict(loaded).keys() == traverse_util.flatten_dict(params).keys()
    for name, array in traverse_util.flatten_dict(params).items():
        np.testing.assert_array_equal(traverse_util.flatten_dict(loaded)[name], array)


def test_logits_equal_those_of_transformers(saved):
    torch = pytest.importorskip("torch", reason="torch is for parity tests only")
    transformers = pytest.importorskip("transformers", reason="for parity tests only")
    folder, config, params = saved
    peer = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(2, 48, (3, 140)), rng.integers(2, 48, (3, 150))
    inputs[1, 90:] = 0  # padding
    shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    with torch.no_grad():
        theirs = peer(
            input_ids=torch.tensor(inputs),
            attention_mask=torch.tensor((inputs > 0).astype(np.int64)),
            decoder_input_ids=torch.tensor(shifted),
        ).logits.numpy()
    ours = Transformer(config).apply({"params": params}, inputs, shifted, targets, enable_dropout=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_sharded_and_half_precision_files_load(tmp_path):
    config, params = student("1.1")
    save_huggingface(tmp_path, params, config, ml_dtypes.bfloat16)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[:10], "b.safetensors": names[10:]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, tmp_path / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded, _ = load_huggingface(tmp_path)
    for name, array in traverse_util.flatten_dict(params).items():
        found = traverse_util.flatten_dict(loaded)[name]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, array, rtol=1e-2)


def test_a_missing_and_a_misshapen_parameter_are_named(saved):
    folder, _, _ = saved
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.block.1.layer.0.SelfAttention.q.weight"
    save_file({k: v for k, v in tensors.items() if k != name}, path)
    with pytest.raises(UserError, match=name):
        load_huggingface(folder)
    save_file({**tensors, name: np.zeros((3, 5), np.float32)}, path)
    with pytest.raises(UserError, match=r"\[5, 3\].*\[16, 24\]"):
        load_huggingface(folder)


def test_a_cut_file_a_pickle_and_another_architecture_are_refused(saved):
    folder, _, _ = saved
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_huggingface(folder)
    path.rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="a pickle can run code"):
        load_huggingface(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="not the config of a T5"):
        load_huggingface(folder)
