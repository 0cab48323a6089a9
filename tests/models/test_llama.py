import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.checkpoints.other_formats.parameters import from_tree, to_tree
from distill_jax.config import ModelOptions, Sources, build
from distill_jax.data.records import Segment, to_features
from distill_jax.errors import UserError
from distill_jax.models.encoder_decoder import output_kernel
from distill_jax.models.families import describe, make_config, make_network
from distill_jax.models.llama import DecoderOnly
from distill_jax.models.llama_config import LlamaConfig
from distill_jax.models.llama_layers import inverse_wavelengths
from distill_jax.training import train_state
from distill_jax.training.losses import step_by_step_weights
from distill_jax.training.step import make_eval_step

CONFIG = LlamaConfig(
    vocab_size=48,
    emb_dim=16,
    num_heads=4,
    num_kv_heads=2,
    num_decoder_layers=3,
    head_dim=6,
    mlp_dim=24,
    rope_base=100.0,
)
KINDS = {
    "Llama": {},
    "Qwen 3": {"qk_norm": True, "logits_via_embedding": False},
    "scanned": {"scan_layers": True, "remat": "full", "qk_norm": True},
}
LENGTHS = {"inputs": 36, "targets": 20}


@pytest.fixture(scope="module", params=KINDS)
def student(request):
    model = DecoderOnly(dataclasses.replace(CONFIG, **KINDS[request.param]))
    params = train_state.init_params(model, 0)
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda x: x + rng.normal(0, 0.2, x.shape).astype(np.float32), params)


def segments(count, seed=0, shared=False):
    """Pairs of a label and a rationale of each of `count` examples; 0 is a token as any other."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        inputs = rng.integers(0, 48, rng.integers(2, 9)).tolist()
        for task_id, start in ((1, 5), (2, 6)):
            own = [] if shared and task_id == 2 else inputs
            made.append(
                Segment(own, rng.integers(0, 48, rng.integers(1, 5)).tolist(), task_id, number, start=start)
            )
    return made


def batch_of(rows, **options):
    features = [to_features(row, LENGTHS, **options) for row in rows]
    return {name: jnp.asarray(np.stack([row[name] for row in features])) for name in features[0]}


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    others = ("encoder_segment_ids", "decoder_segment_ids", "decoder_cross_segment_ids")
    options = {name: batch[name] for name in others if name in batch}
    return model.apply({"params": params}, *(batch[n] for n in names), enable_dropout=False, **options)


def test_packed_is_unpacked(student):
    model, params = student
    parts = segments(2)
    packed = batch_of([parts])
    alone = batch_of([[part] for part in parts])
    together, apart = logits_of(model, params, packed)[0], logits_of(model, params, alone)
    place = 0
    for number, part in enumerate(parts):
        length = len(part.targets)
        np.testing.assert_allclose(together[place : place + length], apart[number, :length], atol=1e-5)
        place += length


def test_a_shared_input_is_two_rows(student):
    model, params = student
    both = batch_of([segments(2, shared=True)], shared=True)
    apart = batch_of([[part] for part in segments(2)])
    assert (both["encoder_segment_ids"] > 0).sum() < (apart["encoder_segment_ids"] > 0).sum()
    metrics = [
        jax.device_get(make_eval_step(model, step_by_step_weights())(params, batch)) for batch in (both, apart)
    ]
    for name, value in metrics[1].items():
        np.testing.assert_allclose(metrics[0][name], value, rtol=1e-5, err_msg=name)
    assert metrics[0]["rationale_tokens"] > 0


def test_a_target_does_not_see_its_sibling(student):
    model, params = student
    parts = segments(1, shared=True)
    changed = [parts[0], dataclasses.replace(parts[1], targets=[7] * len(parts[1].targets))]
    label = len(parts[0].targets)
    one, other = (logits_of(model, params, batch_of([row], shared=True))[0] for row in (parts, changed))
    np.testing.assert_array_equal(one[:label], other[:label])
    assert not np.allclose(one[label + 1 :], other[label + 1 :])


def test_the_prefix_is_read_once_for_all_that_continue_it(student):
    model, params = student
    batch = batch_of([segments(2, shared=True)], shared=True)
    whole = logits_of(model, params, batch)
    inputs, kept = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    apply = jax.jit(model.apply, static_argnames=("method", "enable_dropout", "decode"))
    encoded = apply({"params": params}, inputs, kept, enable_dropout=False, method="encode")
    states = apply(
        {"params": params},
        *(encoded, inputs, batch["decoder_input_tokens"], kept, batch["decoder_segment_ids"]),
        decoder_cross_segment_ids=batch["decoder_cross_segment_ids"],
        enable_dropout=False,
        decode=False,
        method="decoder_states",
    )
    kernel, scale = output_kernel(params, model.config)
    own = np.asarray(batch["decoder_segment_ids"]) > 0
    np.testing.assert_allclose((states * scale @ kernel)[own], whole[own], atol=1e-5)


@pytest.mark.parametrize("kind", ["Llama", "Qwen 3"])
def test_scanned_layers_compute_the_same(kind):
    model = DecoderOnly(dataclasses.replace(CONFIG, **KINDS[kind]))
    scanned = DecoderOnly(dataclasses.replace(model.config, scan_layers=True, scan_unroll=2))
    params, batch = train_state.init_params(model, 0), batch_of([segments(2)])
    stacked = to_tree(from_tree(params), scan_layers=True)
    one, other = logits_of(model, params, batch), logits_of(scanned, stacked, batch)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_wavelengths_by_hand():
    plain = dataclasses.replace(CONFIG, head_dim=4, rope_base=16.0)
    np.testing.assert_allclose(inverse_wavelengths(plain), [1.0, 0.25])
    linear = dataclasses.replace(plain, rope_scaling=(8.0,))
    np.testing.assert_allclose(inverse_wavelengths(linear), [0.125, 0.03125])
    # Within 16 positions the first turns 2.5 times and is left, the second 0.6 times and is divided.
    scaled = dataclasses.replace(plain, rope_scaling=(8.0, 1.0, 2.0, 16.0))
    np.testing.assert_allclose(inverse_wavelengths(scaled), [1.0, 0.03125])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"num_kv_heads": 3}, "num_kv_heads 3 does not divide num_heads 4"),
        ({"head_dim": 5}, "head_dim must be even"),
        ({"rope_scaling": (2.0, 1.0)}, "expected 1 number"),
        ({"num_encoder_layers": 2}, "decoder-only student has none"),
    ],
)
def test_what_cannot_be_is_refused(changes, what):
    with pytest.raises(UserError, match=what):
        dataclasses.replace(CONFIG, **changes)


def test_the_config_goes_to_json_and_back():
    config = dataclasses.replace(CONFIG, rope_scaling=(8.0, 1.0, 4.0, 8192.0))
    assert make_config(describe(config)) == config
    assert describe(config)["model_family"] == "llama"


# From the published checkpoints' own counts (transformers, `num_parameters()`).
@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("smollm2/135m", 134_515_008),
        ("smollm2/360m", 361_821_120),
        ("smollm2/1.7b", 1_711_376_384),
        ("qwen3/0.6b", 596_049_920),
        ("qwen3/1.7b", 1_720_574_976),
        ("qwen3/4b", 4_022_468_096),
        ("llama3_2/1b", 1_235_814_400),
        ("llama3_2/3b", 3_212_749_824),
    ],
)
def test_sizes_are_those_of_the_published_models(size, count):
    config = make_config(
        build(ModelOptions, Sources(model=size), scan_layers=True).shape
    )  # one layer is traced
    model, tokens = make_network(config), jnp.ones((1, 8), jnp.int32)
    shapes = jax.eval_shape(
        lambda key: model.init(key, tokens, tokens, tokens, enable_dropout=False)["params"], jax.random.key(0)
    )
    assert sum(x.size for x in jax.tree.leaves(shapes)) == count
    assert config.matrix_parameters() == pytest.approx(count, rel=1e-3)
