"""Every model file fits its public checkpoint: a folder of that config.json, and zeros."""

import json
import math
import struct

import numpy as np
import pytest
from public_configs import PUBLIC

from distill_jax.config import ModelOptions, PrepareConfig, Sources, TrainConfig, build, gin_files
from distill_jax.config.start import DEFAULT_START
from distill_jax.errors import UserError
from distill_jax.models.families import make_config, make_network
from distill_jax.planning.presets import KNOWN, LICENCES, digest_of, presets
from distill_jax.training.initial import open_start

torch = pytest.importorskip("torch", reason="for parity tests only")
transformers = pytest.importorskip("transformers", reason="for parity tests only")
NAMES = gin_files.models()
# In millions, as the papers and model cards have it, where they say it: of all but the vision tower.
STATED = {"t5_1_0/small": 60.5, "t5_1_1/small": 77, "t5_1_1/xl": 2850, "byt5/small": 300, "umt5/small": 307}
STATED |= {"t5gemma2/270m-270m": 370, "t5gemma2/1b-1b": 1700, "t5gemma2/4b-4b": 7000, "smollm2/135m": 134.5}
STATED |= {"llama3_2/1b": 1236, "llama3_2/3b": 3213, "qwen3/0.6b": 596, "qwen3/4b": 4022, "smollm2/360m": 362}


def checkpoint_of(name):
    path = build(PrepareConfig, Sources(model=name)).initial_checkpoint_path
    return path and path.removeprefix("hf://")


def network_of(name, **changes):
    return make_network(make_config(build(ModelOptions, Sources(model=name), **changes).shape))


def write_zeros(folder, description):
    """A folder as transformers lays it out; the weights are a hole in the file."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(description))
    config = transformers.AutoConfig.from_pretrained(folder)
    is_causal = description["model_type"] in ("llama", "qwen3")
    kind = transformers.AutoModelForCausalLM if is_causal else transformers.AutoModelForSeq2SeqLM
    with torch.device("meta"):
        model = kind.from_config(config)
    names = {}  # of tied tensors the first, as `save_pretrained` has it
    for key, tensor in model.state_dict(keep_vars=True).items():
        # transformers 5 ties every T5's in memory.
        untied = key == "lm_head.weight" and description.get("tie_word_embeddings") is False
        if untied or id(tensor) not in names.values():
            names[key] = id(tensor)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items() if key in names}
    header, end = {}, 0
    for key, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[key] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("flan_t5/")])
def test_a_model_file_fits_its_public_checkpoint(name, tmp_path):
    repository = checkpoint_of(name)
    if repository is None:
        assert name.endswith("/tiny")
        return
    write_zeros(tmp_path / "folder", PUBLIC[repository])
    network = network_of(name)
    checkpoint = open_start(str(tmp_path / "folder"), network)
    total = sum(math.prod(parameter.shape) for parameter in checkpoint.parameters.values())
    assert json.loads(KNOWN.read_text())[digest_of(network.config)] == total, (
        "python -m distill_jax.planning.presets"
    )
    assert total / 1e6 == pytest.approx(STATED.get(name, total / 1e6), rel=0.03)


def test_flan_t5_is_t5_1_1s_networks():
    for name in NAMES:
        if name.startswith("flan_t5/"):
            size = name.partition("/")[2]
            assert network_of(name).config == network_of(f"t5_1_1/{size}").config
            assert checkpoint_of(name) == f"google/flan-t5-{size}" and checkpoint_of(name) in PUBLIC


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("t5gemma/small", {"mlp_dim": 1088}, r"parameter .*shape \[512, 1024\], .* asks for \[512, 1088\]"),
        ("smollm2/135m", {"rope_base": 10000.0}, "rope_base is 100000.0, the model's gin file has 10000.0"),
        ("t5gemma/small", {"final_logit_cap": 0.0}, "final_logit_cap is 30.0"),
        (
            "t5gemma/small",
            {"sliding_window": 512},
            r"give --sliding-window \(SLIDING_WINDOW\) 4096; it is a --model t5gemma/small$",
        ),
    ],
)
def test_a_wrong_size_or_rotation_is_found(name, change, message, tmp_path):
    write_zeros(tmp_path / "folder", PUBLIC[checkpoint_of(name)])
    with pytest.raises(UserError, match=message):
        open_start(str(tmp_path / "folder"), network_of(name, **change))


def test_a_number_that_was_rounded_to_float32_is_the_same(tmp_path):
    write_zeros(tmp_path / "folder", PUBLIC[checkpoint_of("smollm2/135m")])
    rounded = float(np.float32(1e-5))
    assert rounded != 1e-5
    open_start(str(tmp_path / "folder"), network_of("smollm2/135m", norm_epsilon=rounded))


def test_the_default_start_is_that_of_the_default_network():
    assert build(PrepareConfig, Sources(model="small")).initial_checkpoint_path == DEFAULT_START
    task = {"mixture_or_task_name": "svamp", "model_dir": "run"}
    assert (
        TrainConfig(**task).start == DEFAULT_START == build(TrainConfig, Sources(model="small"), **task).start
    )


def test_the_models_are_listed_with_what_they_need():
    found = {each.name: each for each in presets()}
    assert set(found) == set(NAMES)
    assert {name.partition("/")[0] for name in NAMES} == set(LICENCES)
    small, tiny = found["t5_1_1/small"], found["t5_1_1/tiny"]
    assert (small.checkpoint, small.licence) == (DEFAULT_START, "Apache 2.0") and small.parameters == 76_961_152
    assert (tiny.checkpoint, tiny.licence) == (None, None)
    for each in found.values():
        assert (
            4 * each.parameters < each.serve_bytes < each.train_bytes
            and 16 * each.parameters < each.train_bytes
        )
