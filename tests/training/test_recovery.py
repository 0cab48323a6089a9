"""A student recovers its teacher's class distribution from probabilities, not from hard labels.

The toy teacher says how likely `yes` is by the share of `x` in a word; held-out words are new.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_student import TINY

from distill_jax.data.records import Segment, to_features
from distill_jax.models.t5 import Transformer
from distill_jax.training import losses, optimizers, train_state
from distill_jax.training.losses import CrossEntropy, LogitDistillation, SoftLabels
from distill_jax.training.step import make_train_step

pytestmark = pytest.mark.slow
LENGTHS = {"inputs": 9, "targets": 4}
YES, NO, END = 5, 6, 1
STEPS = 250
MODEL = Transformer(dataclasses.replace(TINY, vocab_size=8))


def words(seed, count):
    """Words of eight letters, x (3) or y (4), and the teacher's probability of yes: float [count]."""
    x = np.random.default_rng(seed).random((count, 8)) < np.random.default_rng(seed + 1).random((count, 1))
    return np.where(x, 3, 4), 0.1 + 0.8 * x.mean(axis=1)


def soft(word, p):
    """Both labels of a word and their probabilities, the likelier one gold."""
    return Segment([*word, END], [YES, END, NO, END], 1, 0, (2, 2), (p, 1 - p), int(p < 0.5))


def hard(word, p):
    return Segment([*word, END], [YES if p >= 0.5 else NO, END], 1, 0)


def batches(make, probabilities, is_soft=False):
    letters, _ = words(0, 2000)
    rng = np.random.default_rng(7)
    rows = [to_features([make(*pair)], LENGTHS, is_soft) for pair in zip(letters, probabilities, strict=True)]
    features = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    for _ in range(STEPS):
        chosen = rng.choice(len(letters), 32)
        yield {name: values[chosen] for name, values in features.items()}


def train(objective, seed, data, teacher=None):
    optimizer = optimizers.adamw(1e-2)
    step = make_train_step(MODEL, optimizer, losses.standard_weights(), objective=objective)
    state = train_state.create(train_state.init_params(MODEL, seed), optimizer)
    for batch in data:
        state, metrics = step(state, batch, teacher)
        jax.block_until_ready(metrics)
    return state.params


@jax.jit
def first_token(params, letters):
    """Probabilities of yes and no as the first token, normalised: float [words, 2]."""
    inputs = jnp.pad(letters, ((0, 0), (0, 1)), constant_values=END)
    tokens = jnp.zeros((len(letters), 1), jnp.int32)
    logits = MODEL.apply({"params": params}, inputs, tokens, tokens, enable_dropout=False)
    return jax.nn.softmax(logits[:, 0, jnp.array([YES, NO])])


def kl(p, q):
    return float(np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=-1)))


def test_probabilities_recover_a_teacher_that_hard_labels_do_not():
    _, known = words(0, 2000)
    letters, yes = words(100, 500)
    p = np.stack([yes, 1 - yes], axis=-1)
    from_soft = train(SoftLabels(cross_entropy_weight=0.0), 0, batches(soft, known, is_soft=True))
    from_hard = train(CrossEntropy(), 0, batches(hard, known))
    soft_kl, hard_kl = (kl(p, np.asarray(first_token(params, letters))) for params in (from_soft, from_hard))
    assert soft_kl < 0.02 and hard_kl > 0.1, (soft_kl, hard_kl)

    # The student that has recovered it serves as the white-box teacher of the next one.
    taught = np.asarray(first_token(from_soft, letters))
    likelier = np.asarray(first_token(from_soft, words(0, 2000)[0]))[:, 0]
    distil = LogitDistillation(MODEL, cross_entropy_weight=0.0)
    from_logits = train(distil, 1, batches(hard, likelier), from_soft)
    from_its_labels = train(CrossEntropy(), 1, batches(hard, likelier))
    logit_kl, label_kl = (
        kl(taught, np.asarray(first_token(x, letters))) for x in (from_logits, from_its_labels)
    )
    assert logit_kl < 0.02 and label_kl > 0.1, (logit_kl, label_kl)
