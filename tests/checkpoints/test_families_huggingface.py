"""Hugging Face's folders of every family, in and out, bit for bit; of each model file, names and shapes."""

import dataclasses
import json
import logging
import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers_families import KINDS, make_peer, saved_peer, texts, torch, transformers

from distill_jax.checkpoints.convert import convert
from distill_jax.checkpoints.other_formats import huggingface
from distill_jax.checkpoints.other_formats.huggingface import read_huggingface, write_huggingface
from distill_jax.checkpoints.other_formats.parameters import Parameter, from_tree, to_tree
from distill_jax.config import ConvertConfig, ModelOptions, Sources, build
from distill_jax.errors import UserError
from distill_jax.models.families import make_config, make_network

FILES = pathlib.Path(__file__).parents[2] / "gin_configs/models"
PRESETS = sorted(
    f"{path.parent.name}/{path.stem}"
    for path in FILES.glob("*/*.gin")
    if path.stem not in ("common", "tiny") and path.parent.name in ("t5gemma", "t5gemma2", "umt5")
)
each = pytest.mark.parametrize("kind", KINDS)


@each
@pytest.mark.parametrize("shard_bytes", [10**9, 6000])
def test_what_is_read_is_written_bit_for_bit(tmp_path, kind, shard_bytes):
    _, parameters, config = saved_peer(kind, tmp_path / "theirs")
    write_huggingface(tmp_path / "ours", parameters, config, shard_bytes=shard_bytes)
    files = sorted((tmp_path / "ours").glob("*.safetensors"))
    assert (len(files) > 1) == (shard_bytes == 6000)
    written = {name: array for path in files for name, array in load_file(path).items()}
    stored = load_file(tmp_path / "theirs/model.safetensors")
    text = {name: x for name, x in stored.items() if "vision" not in name and "multi_modal" not in name}
    assert written.keys() == text.keys()
    for name, array in text.items():
        np.testing.assert_array_equal(written[name], array, err_msg=name)
    assert read_huggingface(tmp_path / "ours")[1] == config


@each
def test_transformers_computes_the_same_with_what_we_write(tmp_path, kind):
    _, parameters, config = saved_peer(kind, tmp_path / "theirs")
    scanned = from_tree(to_tree(parameters, scan_layers=True))
    write_huggingface(tmp_path / "ours", scanned, dataclasses.replace(config, scan_layers=True))
    peer = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours").eval()
    sources, outputs = texts()
    with torch.no_grad():
        theirs = peer(
            input_ids=torch.tensor(sources).long(),
            attention_mask=torch.tensor((sources > 0).astype(np.int64)),
            decoder_input_ids=torch.tensor(outputs).long(),
        ).logits
    params = to_tree(parameters)
    ours = make_network(config).apply({"params": params}, sources, outputs, outputs, enable_dropout=False)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def test_nothing_is_read_before_it_is_asked_for(tmp_path, monkeypatch):
    make_peer("unbalanced").save_pretrained(tmp_path)
    asked = []
    opened = huggingface.read_tensors

    def counted(folder):
        return {
            name: Parameter(p.shape, lambda index, name=name, p=p: asked.append(name) or p.fetch(index))
            for name, p in opened(folder).items()
        }

    monkeypatch.setattr(huggingface, "read_tensors", counted)
    parameters, _ = read_huggingface(tmp_path)
    assert asked == []
    parameters["encoder/layers_0/mlp/wi_0/kernel"].read()
    assert asked == ["model.encoder.layers.0.mlp.gate_proj.weight"]


def test_the_vision_tower_is_left_out_and_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        saved_peer("t5gemma2", tmp_path)
    assert "tensors of the vision tower are left out: model.encoder.vision_tower." in caplog.text
    assert "2 tensors of the vision tower's projection are left out" in caplog.text


def test_the_names_of_both_versions_of_transformers_are_read(tmp_path):
    make_peer("t5gemma2").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    expected = {name: p.read() for name, p in read_huggingface(tmp_path)[0].items()}
    parts = ("embed_tokens", "layers", "norm")
    for name in list(tensors):
        if name.startswith(tuple(f"model.encoder.{part}" for part in parts)):
            tensors[name.replace("model.encoder.", "model.encoder.text_model.")] = tensors.pop(name)
    save_file(tensors, tmp_path / "model.safetensors")
    found = read_huggingface(tmp_path)[0]
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name].read(), array)


@pytest.mark.parametrize(
    ("kind", "part", "changes", "message"),
    [
        ("t5gemma", "decoder", {"hidden_activation": "silu"}, "decoder.hidden_activation is 'silu'"),
        ("t5gemma", "encoder", {"rms_norm_eps": 1e-5}, "encoder.rms_norm_eps is 1e-05"),
        ("t5gemma", "encoder", {"sliding_window": 9}, "sliding_window is 9 in the encoder, 5 in the decoder"),
        (
            "t5gemma",
            "decoder",
            {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
            "decoder.layer_types: expected full attention in every n-th layer",
        ),
        (
            "t5gemma",
            "decoder",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
            "decoder.rope_type is 'yarn'",
        ),
        ("t5gemma", "decoder", {"head_dim": None}, "decoder is not the config of a Gemma: TypeError"),
        (
            "t5gemma2",
            "decoder",
            {"rope_parameters": {"full_attention": {"rope_type": "llama3"}}},
            "decoder.rope_parameters .* T5Gemma 2 has only default and linear",
        ),
    ],
)
def test_what_our_layers_cannot_be_is_refused(tmp_path, kind, part, changes, message):
    make_peer(kind).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config[part] |= changes
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        read_huggingface(tmp_path)


@pytest.mark.parametrize("size", PRESETS)
def test_each_model_file_fits_a_folder_of_its_exact_configuration(tmp_path, monkeypatch, size):
    config = make_config(build(ModelOptions, Sources(model=size)).shape)
    (family,) = (family for family in huggingface.FAMILIES if family.CONFIG is type(config))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(family.write_config(config)))
    with torch.device("meta"):
        their_config = transformers.AutoConfig.from_pretrained(tmp_path)
        model = transformers.AutoModelForSeq2SeqLM.from_config(their_config)

    def never(index):
        raise AssertionError("a shape is all there is")

    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = {name: Parameter(shape, never) for name, shape in shapes.items()}
    repeated = set(family.copies(config))
    monkeypatch.setattr(
        huggingface, "read_tensors", lambda folder: {k: v for k, v in tensors.items() if k not in repeated}
    )
    parameters, read = read_huggingface(tmp_path)
    same = {"query_scalar": None} if hasattr(config, "query_scalar") else {}
    assert dataclasses.replace(read, scan_layers=config.scan_layers, **same) == config
    assert len(parameters) == len(list(family.names(config)))


def test_t5x_formats_are_refused_by_name(tmp_path):
    make_peer("t5gemma").save_pretrained(tmp_path / "theirs")
    for to in ("t5x", "t5x-orbax"):
        with pytest.raises(UserError, match=f"a t5gemma cannot be written as {to}: T5X has only T5"):
            convert(ConvertConfig(source=str(tmp_path / "theirs"), destination=str(tmp_path / to), to=to))
    done = convert(
        ConvertConfig(
            source=str(tmp_path / "theirs"),
            destination=str(tmp_path / "run"),
            to="distill-jax",
            scan_layers=True,
        )
    )
    convert(ConvertConfig(source=str(tmp_path / "run"), destination=str(tmp_path / "again"), to="huggingface"))
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "again"))
    assert done.parameters == len(expected) and expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
