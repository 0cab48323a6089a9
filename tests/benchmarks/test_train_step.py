"""The training benchmark on a student of one layer: all contestants take the same pairs."""

import numpy as np
import pytest
from rich.console import Console

from benchmarks import data as rows
from benchmarks import (
    flops,
    packings,
    pytorch_reference,
    results,
    run,
    step_parts,
    step_scaling,
    t5x_packed,
    train_step,
    turns,
)
from distill_jax.models.t5gemma import T5GemmaConfig

CONTESTANTS = set(results.CONTESTANTS["train"])


@pytest.fixture
def without_t5x(monkeypatch):
    """T5X imports TensorFlow, which takes long."""
    monkeypatch.setattr(t5x_packed, "available", lambda: False)


@pytest.mark.parametrize("together", [True, False])
def test_a_peer_that_is_not_installed_is_none(tiny, settings, monkeypatch, without_t5x, together):
    monkeypatch.setattr(pytorch_reference, "available", lambda: False)
    found = train_step.run(settings, turns.Here, together)
    assert set(found) >= CONTESTANTS
    assert found["reference"] is None and found["t5x_packed"] is None
    assert set(found["flops"]) == {"ours"}
    assert len(found["ours"]) == settings.repeats
    assert found["settings"]["ours"]["updates"] == 2


def test_the_rates_of_the_others_stay_where_a_group_fails(tiny, settings, monkeypatch, tmp_path):
    class Broken(turns.Here):
        def __init__(self, module, job, name):
            if name in train_step.T5X:
                raise RuntimeError(f"{name}: no module")
            super().__init__(module, job, name)

    monkeypatch.setattr(pytorch_reference, "available", lambda: False)
    monkeypatch.setattr(t5x_packed, "available", lambda: True)
    found = train_step.run(settings, Broken)
    assert len(found["ours"]) == settings.repeats and found["t5x_packed"] is None
    assert found["failed"] == "t5x_packed: no module" and set(found["flops"]) == {"ours"}

    monkeypatch.setattr(run, "measured", lambda part, settings: dict(found))
    folder = tmp_path / "results"
    made = run.run_parts(["train"], settings, folder, Console(quiet=True))
    assert made["failed"] == {"train": "t5x_packed: no module"} and made["train"]["ours"]["median"] > 0


def test_ours_and_the_reference_start_from_one_loss(tiny, settings, without_t5x):
    pytest.importorskip("torch", reason="the benchmark's peer")
    found = train_step.run(settings, turns.Here)
    assert found["first_loss"]["ours"] == pytest.approx(found["first_loss"]["reference"], rel=1e-4)
    assert len(found["reference"]) == settings.repeats


def test_losses_that_differ_stop_the_benchmark(tiny, settings, monkeypatch, without_t5x):
    pytest.importorskip("torch", reason="the benchmark's peer")
    monkeypatch.setattr(pytorch_reference, "ALPHA", 0.9)
    monkeypatch.setattr(train_step, "AGREES", 1e-6)
    with pytest.raises(AssertionError, match="where the reference has"):
        train_step.run(settings, turns.Here)


def test_both_forms_of_the_batches_have_all_the_pairs(settings):
    rows.use(settings)
    pairs = packings.pairs(settings)
    batches, counts, described = packings.packed(settings, packings.PACKINGS["ours"])
    assert sum(counts) == len(pairs) == settings.rows
    packed = sum(int((batch["decoder_target_tokens"] > 0).sum()) for batch in batches)
    assert packed == sum(len(targets) for pair in pairs for _, targets in pair)
    assert described["rows"] * described["updates"] == sum(len(b["encoder_positions"]) for b in batches)


@pytest.mark.parametrize("name", packings.PACKINGS)
def test_another_start_takes_the_place_of_0_alone(settings, name):
    """With a shared encoding the rationale begins with the end token, which tells it from the label."""
    rows.use(settings)
    ours, others = (packings.packed(settings, packings.PACKINGS[name], start)[0] for start in (0, 2))
    for one, other in zip(ours, others, strict=True):
        segments = one["decoder_segment_ids"]
        starts = (segments > 0) & (np.diff(segments, axis=1, prepend=0) != 0)
        found, expected = other["decoder_input_tokens"], one["decoder_input_tokens"]
        assert set(expected[starts].tolist()) == ({0, 1} if name == "ours_shared_encoding" else {0})
        np.testing.assert_array_equal(found[starts], np.where(expected[starts] == 0, 2, expected[starts]))
        np.testing.assert_array_equal(found[~starts], expected[~starts])


def test_seqio_packs_all_the_pairs(settings):
    rows.use(settings)
    batches, counts, described = packings.packed_by_seqio(settings, packings.T5X_PACKING)
    inputs = [tokens for pair in packings.pairs(settings) for tokens, _ in pair]
    assert sum(counts) == settings.rows
    assert sum(int((batch["encoder_input_tokens"] > 0).sum()) for batch in batches) == sum(map(len, inputs))
    assert sum(int(batch["encoder_segment_ids"].max(axis=1).sum()) for batch in batches) == len(inputs)
    assert described["updates"] == len(batches) == 2


@pytest.mark.slow
def test_t5x_takes_part(tiny, settings):
    pytest.importorskip("t5x", reason="T5X is on no registry: docs/t5x.md tells how it is installed")
    config, params = train_step.student(settings)
    rows.use(settings)
    for optimizer, pack in (("adamw", packings.packed_by_seqio), ("adafactor", packings.packed)):
        packed = pack(settings, packings.T5X_PACKING)
        one = t5x_packed.contestant(config, params, *packed, optimizer=optimizer)
        first = one.step(0)
        assert one.step(0) < first


def test_step_scaling(tiny, settings):
    found = step_scaling.run(settings, rows=(1, 2), layers=(1, 2))
    assert found["tokens"]["sizes"] == [352, 704]
    assert found["layers"]["against_linear"][0] == 1.0
    assert step_scaling.against_linear([1, 2, 4], [1.0, 2.0, 2.0]) == [1.0, 1.0, 0.5]
    assert step_scaling.table(found).row_count == 4


def test_the_parts_of_a_step(tiny, settings):
    found = step_parts.run(settings, rows=2, lengths=(128, 64))
    seconds = found["seconds"]
    assert min(seconds[name] for name in ("step", "products", "optimizer")) > 0
    parts = sum(seconds[name] for name in ("products", "attention", "optimizer", "rest"))
    assert parts == pytest.approx(seconds["step"])


def test_the_products_of_a_step_are_those_that_its_operations_count(tiny):
    config = tiny(num_heads=3, emb_dim=8, head_dim=4, mlp_dim=24, vocab_size=40)
    shapes = step_parts.products(config, 1, (16, 8))
    # Two products of [queries, keys] for each attention, forward and twice backward, are not among them.
    heads = config.num_heads * config.head_dim
    encoder, decoder = config.num_encoder_layers, config.num_decoder_layers
    attention = 3 * 4 * heads * (encoder * 16 * 16 + decoder * (8 * 8 + 8 * 16))
    assert step_parts.flops(shapes) == flops.example_flops(config, 16, 8) - attention


def test_flops_of_a_model_counted_by_hand(tiny):
    config = tiny(num_heads=1, emb_dim=4, head_dim=4, mlp_dim=8, vocab_size=10)
    # A token: four projections of 2 x 4 x 4, three of 2 x 4 x 8; scores and values 2 x 2 x 4 a pair of tokens.
    encoder = 3 * (128 + 192) + 3 * 3 * 16
    own = 2 * (128 + 192) + 2 * 2 * 16
    cross = (2 + 2 + 3 + 3) * 32 + 2 * 3 * 16
    assert flops.example_flops(config, 3, 2) == 3 * (encoder + own + cross + 2 * 80)


def test_flops_of_grouped_heads_and_of_an_encoder_of_its_own_sizes_counted_by_hand():
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "head_dim": 2, "vocab_size": 10}
    decoder = {"emb_dim": 4, "num_heads": 4, "num_kv_heads": 2, "mlp_dim": 8}
    encoder = {"encoder_emb_dim": 6, "encoder_num_heads": 2, "encoder_num_kv_heads": 1, "encoder_mlp_dim": 3}
    config = T5GemmaConfig(**sizes, **decoder, **encoder)
    # Queries and outputs, keys and values, the gated layer's three; scores and values of each pair of tokens.
    read = 3 * (2 * 2 * 6 * 4 + 2 * 2 * 6 * 2 + 3 * 2 * 6 * 3) + 3 * 3 * (2 * 2 * 4)
    own = 2 * (2 * 2 * 4 * 8 + 2 * 2 * 4 * 4 + 3 * 2 * 4 * 8) + 2 * 2 * (2 * 2 * 8)
    cross = 2 * (2 * 2 * 4 * 8) + 3 * (2 * 2 * 6 * 4) + 2 * 3 * (2 * 2 * 8)
    assert flops.forward_flops(config, 3, 2) == read + own + cross + 2 * 80
