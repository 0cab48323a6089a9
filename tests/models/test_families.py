"""Every family computes what transformers computes, however it is packed, scanned, cached or sharded."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers_families import GEMMA, KINDS, VOCAB, saved_peer, texts, torch

from distill_jax.checkpoints.other_formats import huggingface
from distill_jax.checkpoints.other_formats.parameters import expected_shapes, from_tree, to_tree
from distill_jax.config import ModelOptions, Sources, build
from distill_jax.errors import UserError
from distill_jax.models.encoder_decoder import output_kernel, positions_of
from distill_jax.models.families import describe, make_config, make_network
from distill_jax.models.logits import weighted_cross_entropy

each = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="session")
def peer(tmp_path_factory):
    folders = {}

    def of(kind):
        folders.setdefault(kind, tmp_path_factory.mktemp(kind))
        model, parameters, config = saved_peer(kind, folders[kind])
        return model, config, to_tree(parameters)

    return of


def their_logits(model, sources, outputs):
    mask = torch.tensor((sources > 0).astype(np.int64))
    return model(
        input_ids=torch.tensor(sources).long(),
        attention_mask=mask,
        decoder_input_ids=torch.tensor(outputs).long(),
    ).logits


def our_logits(config, params, sources, outputs, **segments):
    model = make_network(config)
    return model.apply({"params": params}, sources, outputs, outputs, enable_dropout=False, **segments)


@each
def test_logits_equal_transformers(peer, kind):
    model, config, params = peer(kind)
    sources, outputs = texts()
    with torch.no_grad():
        expected = their_logits(model, sources, outputs).numpy()
    assert expected.std() > 0.05
    np.testing.assert_allclose(our_logits(config, params, sources, outputs), expected, atol=1e-4)
    scanned = dataclasses.replace(config, scan_layers=True, remat="full")
    stacked = to_tree(from_tree(params), scan_layers=True)
    np.testing.assert_allclose(our_logits(scanned, stacked, sources, outputs), expected, atol=1e-4)


@each
def test_gradients_of_the_loss_equal_torchs(peer, kind):
    model, config, params = peer(kind)
    sources, outputs = texts()
    rng = np.random.default_rng(1)
    targets, weights = rng.integers(1, VOCAB, outputs.shape), rng.random(outputs.shape).astype(np.float32)
    weights /= weights.sum()

    def loss(params):
        states = make_network(config).apply(
            {"params": params}, sources, outputs, outputs, enable_dropout=False, method="hidden"
        )
        kernel, scale = output_kernel(params, config)
        flat = (states * scale).reshape(-1, states.shape[-1])
        token = (targets.reshape(-1), weights.reshape(-1))
        return weighted_cross_entropy(flat, kernel, *token, chunk=20, cap=config.logits_cap)[0]

    ours, grads = jax.jit(jax.value_and_grad(loss))(params)
    model.zero_grad()
    log_probs = torch.log_softmax(their_logits(model, sources, outputs), -1)
    chosen = log_probs.gather(-1, torch.tensor(targets)[..., None])[..., 0]
    theirs = -(chosen * torch.tensor(weights)).sum()
    theirs.backward()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5)
    (family,) = (names for names in huggingface.FAMILIES if names.CONFIG is type(config))
    found = from_tree(grads)
    their_grads = {name.replace("text_model.", ""): p.grad for name, p in model.named_parameters()}
    compared = 0
    for name, ours_name, transposed in family.names(config):
        expected = their_grads[name].numpy()
        np.testing.assert_allclose(
            found[ours_name].read(), expected.T if transposed else expected, atol=1e-4, err_msg=name
        )
        compared += 1
    assert compared == len(found)


def test_positions_restart_at_each_segment():
    tokens = jnp.ones((2, 6), jnp.int32)
    segments = jnp.array([[1, 1, 2, 2, 2, 0], [1, 2, 2, 3, 0, 0]])
    np.testing.assert_array_equal(positions_of(tokens, segments), [[0, 1, 0, 1, 2, 0], [0, 0, 1, 0, 0, 1]])
    np.testing.assert_array_equal(positions_of(tokens, None), [[0, 1, 2, 3, 4, 5]])


@each
def test_packed_rows_equal_rows_of_their_own(peer, kind):
    _, config, params = peer(kind)
    sources, outputs = texts(rows=3, inputs=12, targets=11)
    sources[1] = np.where(sources[1] == 0, 5, sources[1])
    alone = our_logits(config, params, sources, outputs)
    # Two examples in the first row, and one with two targets in the second: the encoder's output is shared.
    packed = np.zeros((2, 30), np.int32)
    packed[0, :24], packed[1, :12] = sources[:2].reshape(-1), sources[2]
    segments, cross = (np.zeros((2, 26), np.int32) for _ in range(2))
    targets = np.zeros((2, 26), np.int32)
    targets[0, :22], targets[1, :11], targets[1, 11:22] = outputs[:2].reshape(-1), outputs[2], outputs[1]
    segments[:, :11], segments[:, 11:22] = 1, 2
    cross[0], cross[1, :22] = segments[0], 1
    encoder_segments = np.zeros((2, 30), np.int32)
    encoder_segments[:, :12], encoder_segments[0, 12:24] = 1, 2
    found = our_logits(
        config,
        params,
        packed,
        targets,
        encoder_segment_ids=encoder_segments,
        decoder_segment_ids=segments,
        decoder_cross_segment_ids=cross,
    )
    other = our_logits(config, params, sources[2:], outputs[1:2])
    rows = [found[0, :11], found[0, 11:22], found[1, :11], found[1, 11:22]]
    np.testing.assert_allclose(np.stack(rows), np.concatenate([alone, other]), atol=1e-5)


@each
def test_cached_decoding_gives_the_logits_of_teacher_forcing(peer, kind):
    _, config, params = peer(kind)
    sources, outputs = texts()
    expected = our_logits(config, params, sources, outputs)
    model, length = make_network(config), outputs.shape[1]
    variables = {"params": params}
    encoded = model.apply(variables, sources, enable_dropout=False, method="encode")
    _, caches = model.apply(
        variables, encoded, sources, jnp.zeros_like(outputs), None, enable_dropout=False, decode=True,
        mutable=["cache", "cross"], method="decode",
    )  # fmt: skip

    @jax.jit
    def step(cache, tokens):
        logits, new = model.apply(
            {**variables, "cache": cache, "cross": caches["cross"]}, encoded, sources, tokens, tokens,
            enable_dropout=False, decode=True, max_decode_length=length, mutable=["cache"], method="decode",
        )  # fmt: skip
        return new["cache"], logits[:, 0]

    cache, found = caches["cache"], []
    for n in range(length):
        cache, logits = step(cache, outputs[:, n : n + 1])
        found.append(logits)
    np.testing.assert_allclose(np.stack(found, 1), expected, atol=1e-5)


@each
def test_a_config_survives_its_description(peer, kind):
    _, config, _ = peer(kind)
    assert make_config(describe(config)) == config and describe(config)["model_family"] == config.family


def test_an_option_that_a_family_lacks_is_refused():
    fields = build(ModelOptions, vocab_size=48).shape
    with pytest.raises(UserError, match=r"\(SLIDING_WINDOW\) 8: the family t5 has no such option"):
        make_config(fields | {"sliding_window": 8})
    with pytest.raises(UserError, match=r"--model-family \(MODEL_FAMILY\) 'bart' is none of t5, umt5"):
        make_config(fields | {"model_family": "bart"})
    with pytest.raises(UserError, match="num_kv_heads: 3 does not divide the 8 num_heads"):
        make_config({"model_family": "t5gemma", "vocab_size": 48, "num_kv_heads": 3})


@pytest.mark.parametrize("kind", GEMMA)
def test_bfloat16_activations_are_near_those_of_float32(peer, kind):
    _, config, params = peer(kind)
    sources, outputs = texts()
    exact = our_logits(config, params, sources, outputs)
    rough = our_logits(dataclasses.replace(config, dtype="bfloat16"), params, sources, outputs)
    assert np.abs(rough - exact).mean() < 0.15 * exact.std()


@pytest.mark.parametrize("kind", GEMMA)
def test_new_parameters_give_logits_of_unit_size(peer, kind):
    _, config, _ = peer(kind)
    config = dataclasses.replace(config, emb_dim=64, final_logit_cap=0.0, dropout_rate=0.1)
    sources, outputs = texts()
    model = make_network(config)
    params = model.init(jax.random.key(0), sources, outputs, outputs, enable_dropout=False)["params"]
    assert 0.5 < our_logits(config, params, sources, outputs).std() < 2.0
    dropped = model.apply({"params": params}, sources, outputs, outputs, rngs={"dropout": jax.random.key(1)})
    assert np.abs(dropped - our_logits(config, params, sources, outputs)).max() > 1e-3


@pytest.mark.parametrize(
    ("size", "count"),
    [  # of the first two: keras-hub's presets of the published checkpoints
        ("t5gemma/small", 312_517_632),
        ("t5gemma/base", 591_490_560),
        ("t5gemma/large", 1_241_761_792),
        ("t5gemma/ml", 2_200_345_344),
        ("t5gemma/xl", 3_766_980_608),
        ("t5gemma/2b-2b", 5_596_853_760),
        ("t5gemma/9b-2b", 12_292_375_296),
        ("t5gemma/9b-9b", 20_333_401_088),
        ("t5gemma2/270m-270m", 368_424_832),
        ("t5gemma2/1b-1b", 1_697_783_168),
        ("t5gemma2/4b-4b", 7_089_112_576),
        ("umt5/small", 306_601_984),
        ("umt5/xxl", 12_972_531_712),
    ],
)
def test_sizes_are_those_of_the_published_models(size, count):
    config = make_config(build(ModelOptions, Sources(model=size)).shape)
    assert sum(math.prod(shape) for shape in expected_shapes(config).values()) == count
    assert config.matrix_parameters() == pytest.approx(count, rel=1e-3)
