import numpy as np
import pytest

from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.evaluation.decoder import bucket_length, decode_texts, length_batches
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import train_state


def test_buckets_double_up_to_the_longest():
    lengths = [1, 16, 17, 33, 90, 100]
    assert [bucket_length(n, 100) for n in lengths] == [16, 16, 32, 64, 100, 100]


def test_every_item_is_in_one_batch_that_is_long_enough():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 57).tolist()
    batches = list(length_batches(lengths, 100, 8))
    assert sorted(i for items, _ in batches for i in items) == list(range(57))
    assert all(len(items) <= 8 for items, _ in batches)
    assert all(lengths[i] <= padded for items, padded in batches for i in items)
    assert len({padded for _, padded in batches}) <= 4


@pytest.mark.parametrize("num_beams", [1, 2])
def test_results_keep_their_order_whatever_the_batches(num_beams):
    config = T5Config(
        vocab_size=384,
        emb_dim=8,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        head_dim=4,
        mlp_dim=16,
    )
    model = Transformer(config)
    params = train_state.init_params(model, 0)
    texts = ["a longer text that fills another bucket", "b", "cc", "a middling one, say", "z"]
    runs = [
        decode_texts(
            params,
            model,
            load_vocabulary("bytes"),
            texts,
            batch_size=batch_size,
            inputs_length=64,
            targets_length=6,
            num_beams=num_beams,
        )
        for batch_size in (1, 4)
    ]
    for (text, score), (other, other_score) in zip(*runs, strict=True):
        assert text == other
        assert score == pytest.approx(other_score, abs=1e-4)
