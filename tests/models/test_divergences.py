"""The losses of soft labels and of logit distillation, by hand and at their limits."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_jax.models import divergences
from distill_jax.models.logits import token_log_probs

KINDS = divergences.DIVERGENCES
token_divergence = jax.jit(divergences.token_divergence, static_argnames=("kind", "beta"))
top_k_divergence = jax.jit(divergences.top_k_divergence, static_argnames=("kind", "beta"))


def logits_of(*probabilities):
    return jnp.log(jnp.array([probabilities], jnp.float32))


def test_token_divergences_by_hand():
    """p = (3/4, 1/4), q = (1/2, 1/2): every term is a logarithm of 2 or 3."""
    teacher, student = logits_of(0.75, 0.25), logits_of(0.5, 0.5)
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    np.testing.assert_allclose(token_divergence(student, teacher), [forward], rtol=1e-5)
    np.testing.assert_allclose(token_divergence(student, teacher, "reverse_kl"), [reverse], rtol=1e-5)
    m = (0.25 * 0.75 + 0.75 * 0.5, 0.25 * 0.25 + 0.75 * 0.5)  # beta p + (1 - beta) q, beta = 1/4
    of_p = 0.75 * math.log(0.75 / m[0]) + 0.25 * math.log(0.25 / m[1])
    of_q = 0.5 * math.log(0.5 / m[0]) + 0.5 * math.log(0.5 / m[1])
    found = token_divergence(student, teacher, "jensen_shannon", beta=0.25)
    np.testing.assert_allclose(found, [0.25 * of_p + 0.75 * of_q], rtol=1e-5)


def test_the_temperature_softens_both_and_its_square_keeps_the_gradients():
    teacher, student = jnp.array([[4.0, 0.0]]), jnp.array([[0.0, 0.0]])
    p = 1.0 / (1.0 + math.exp(-2.0))  # softmax(4 / 2, 0)
    expected = 4.0 * (p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5))
    np.testing.assert_allclose(token_divergence(student, teacher, temperature=2.0), [expected], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_divergence_is_zero_for_equals_and_never_below(kind):
    rng = np.random.default_rng(0)
    student, teacher = (jnp.asarray(rng.normal(size=(50, 9)) * 3, jnp.float32) for _ in range(2))
    np.testing.assert_allclose(token_divergence(teacher, teacher, kind), 0.0, atol=1e-5)
    assert (token_divergence(student, teacher, kind) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_logits_stay_finite(kind):
    student = jnp.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0], [-1e4, 1e4, 1e4]])
    teacher = jnp.array([[-1e4, 1e4, 0.0], [1e4, 0.0, -1e4], [-1e4, 1e4, 1e4]])

    def total(student):
        return token_divergence(student, teacher, kind).sum()

    value, grad = jax.value_and_grad(total)(student)
    assert np.isfinite(value) and np.isfinite(grad).all()
    ids = jnp.array([[1], [0], [2]])
    log_probs = jnp.take_along_axis(jax.nn.log_softmax(teacher), ids, axis=-1)
    value, grad = jax.value_and_grad(lambda s: top_k_divergence(s, ids, log_probs, kind).sum())(student)
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_forward_kl_has_the_gradient_of_cross_entropy():
    rng = np.random.default_rng(1)
    student, teacher = (jnp.asarray(rng.normal(size=(1, 6)), jnp.float32) for _ in range(2))
    grad = jax.grad(lambda s: token_divergence(s, teacher).sum())(student)
    np.testing.assert_allclose(grad, jax.nn.softmax(student) - jax.nn.softmax(teacher), atol=1e-6)
    to_teacher = jax.grad(lambda t: token_divergence(student, t).sum())(teacher)
    np.testing.assert_array_equal(to_teacher, 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_likeliest_tokens_bound_the_whole_from_below(kind, temperature):
    rng = np.random.default_rng(2)
    student, teacher = (jnp.asarray(rng.normal(size=(4, 8)) * 2, jnp.float32) for _ in range(2))
    whole = token_divergence(student, teacher, kind, temperature)
    known = []
    for k in range(1, 9):
        log_probs, ids = jax.lax.top_k(jax.nn.log_softmax(teacher / temperature), k)
        known.append(top_k_divergence(student, ids, log_probs, kind, temperature))
    np.testing.assert_allclose(known[-1], whole, rtol=1e-4, atol=1e-6)
    assert (np.diff(np.stack(known), axis=0) > -1e-5).all()  # more tokens, more of the divergence
    assert (known[2] < whole).all()


def test_the_rest_is_one_outcome_by_hand():
    teacher, student = logits_of(0.5, 0.3, 0.2), logits_of(0.2, 0.5, 0.3)
    found = top_k_divergence(student, jnp.array([[0]]), jnp.log(jnp.array([[0.5]])))
    np.testing.assert_allclose(found, [0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)], rtol=1e-5)
    assert token_divergence(student, teacher) > found


def test_class_divergence_by_hand():
    """One row of two examples, of 2 and 3 classes, and padding."""
    scores = jnp.log(jnp.array([[0.5, 0.5, 0.2, 0.2, 0.6, 1.0]]))
    probs = jnp.array([[0.75, 0.25, 1.0, 0.0, 0.0, 0.0]])
    groups = jnp.array([[1, 1, 2, 2, 2, 0]])
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = divergences.class_divergence(scores, probs, groups, 1.0)
    np.testing.assert_allclose(found, [first + math.log(1.0 / 0.2)], rtol=1e-5)
    # Scores are compared within an example: what all of them share does not count.
    shifted = divergences.class_divergence(scores.at[0, :2].add(-7.0), probs, groups, 1.0)
    np.testing.assert_allclose(shifted, found, rtol=1e-5)


def test_class_divergence_at_a_temperature():
    scores, probs = jnp.array([[0.0, 0.0]]), jnp.array([[0.9, 0.1]])
    p = math.sqrt(0.9) / (math.sqrt(0.9) + math.sqrt(0.1))  # softmax(log p / 2)
    expected = 4.0 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    found = divergences.class_divergence(scores, probs, jnp.array([[1, 1]]), 2.0)
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_class_divergence_at_extreme_scores():
    probs, groups = jnp.array([[1.0, 0.0, 0.0]]), jnp.array([[1, 1, 0]])

    def total(scores):
        return divergences.class_divergence(scores, probs, groups, 1.0).sum()

    value, grad = jax.value_and_grad(total)(jnp.array([[-1e4, 0.0, 0.0]]))
    np.testing.assert_allclose(value, 1e4)
    np.testing.assert_allclose(grad, [[-1.0, 1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_what_is_refused(beta):
    with pytest.raises(ValueError, match="beta"):
        token_divergence(jnp.zeros((1, 2)), jnp.zeros((1, 2)), "jensen_shannon", beta=beta)
    with pytest.raises(ValueError, match="unknown divergence 'kl'"):
        token_divergence(jnp.zeros((1, 2)), jnp.zeros((1, 2)), "kl")


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_change_neither_divergence_nor_gradients(chunk):
    rng = np.random.default_rng(3)
    states, kernel, teacher, weights = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((7, 4), (4, 6), (7, 6), (7,))
    )

    def ours(states, kernel):
        return divergences.weighted_divergence(
            states, kernel, weights, chunk, divergences.token_divergence, [teacher]
        )

    def whole(states, kernel):
        return jnp.sum(weights * token_divergence(states @ kernel, teacher))

    found, expected = (jax.value_and_grad(f, (0, 1))(states, kernel) for f in (ours, whole))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), found, expected)


def test_token_log_probs():
    rng = np.random.default_rng(4)
    states = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
    targets = jnp.array([0, 3, 1, 1, 2])
    expected = jax.nn.log_softmax(states @ kernel)[jnp.arange(5), targets]
    np.testing.assert_allclose(token_log_probs(states, kernel, targets, 2), expected, rtol=1e-5)


LOGITS = st.one_of(
    st.floats(-20, 20, width=32),
    st.floats(width=32, allow_nan=False),
    st.sampled_from([0.0, 1e4, -1e4, 1e30, -1e30, float("inf"), float("-inf")]),
)


@functools.cache
def compiled(kind, k):
    """Jitted values and gradients by the student's logits, of all teacher logits and of stored tokens."""

    def live(student, teacher, temperature):
        return token_divergence(student, teacher, kind, temperature)

    def stored(student, ids, log_probs, temperature):
        return top_k_divergence(student, ids, log_probs, kind, temperature)

    def top_k(teacher, temperature):
        teacher = jnp.clip(teacher / temperature, -1e30, 1e30)
        return jax.lax.top_k(jax.nn.log_softmax(teacher), k or len(teacher))

    return jax.jit(jax.value_and_grad(live)), jax.jit(jax.value_and_grad(stored)), jax.jit(top_k)


def test_all_logits_give_a_finite_divergence_and_gradient():
    """Whole, for each k, and with stored log-probabilities of -inf."""

    @settings(max_examples=120, deadline=None)
    @given(
        logits=st.lists(st.tuples(LOGITS, LOGITS), min_size=5, max_size=5),
        kind=st.sampled_from(KINDS),
        temperature=st.sampled_from([0.1, 4.0]),
        k=st.sampled_from([1, 3, 5]),
        ruled_out=st.integers(0, 5),
    )
    def check(logits, kind, temperature, k, ruled_out):
        student, teacher = np.array(logits, np.float32).T
        live, stored, top_k = compiled(kind, k)
        log_probs, ids = top_k(teacher, temperature)
        cut = np.where(np.arange(k) < k - ruled_out, log_probs, -np.inf).astype(np.float32)
        for value, grad in (
            live(student, teacher, temperature),
            stored(student, ids, log_probs, temperature),
            stored(student, ids, cut, temperature),
        ):
            assert np.isfinite(value) and value >= -1e-5 * temperature**2
            assert np.isfinite(grad).all()

    check()


def test_the_whole_vocabulary_stored_is_the_live_teacher():
    """Also of a teacher with more ids than the student (padding): a live one's are cut before its softmax."""

    @settings(max_examples=80, deadline=None)
    @given(
        logits=st.lists(st.tuples(*[st.floats(-30, 30, width=32)] * 2), min_size=5, max_size=5),
        beyond=st.sampled_from([[], [-20.0, 0.0]]),
        kind=st.sampled_from(KINDS),
        temperature=st.sampled_from([0.5, 4.0]),
    )
    def check(logits, beyond, kind, temperature):
        student, teacher = np.array(logits, np.float32).T
        live, stored, top_k = compiled(kind, None)
        padded = np.append(teacher, teacher.max() + np.float32(beyond)).astype(np.float32)
        log_probs, ids = top_k(padded, temperature)
        found = live(student, teacher, temperature), stored(student, ids, log_probs, temperature)
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

    check()


def test_ids_beyond_the_student_are_left_out_by_hand():
    """Teacher (1/2 on an id that the student lacks, 1/4, 1/8, rest 1/8) is (1/2, 1/4, 1/4) to the student."""
    student = logits_of(0.4, 0.3, 0.1, 0.2)
    known = jnp.array([[9, 0, 1]]), jnp.log(jnp.array([[0.5, 0.25, 0.125]]))
    expected = 0.5 * math.log(0.5 / 0.4) + 0.25 * math.log(0.25 / 0.3) + 0.25 * math.log(0.25 / 0.3)
    np.testing.assert_allclose(top_k_divergence(student, *known), [expected], rtol=1e-5)
    nothing = top_k_divergence(student, jnp.array([[9]]), jnp.zeros((1, 1)))
    np.testing.assert_allclose(nothing, [0.0], atol=1e-6)


def test_a_token_that_the_teacher_rules_out_costs_reverse_kl_its_least_probability():
    student, known = logits_of(0.5, 0.5), (jnp.array([[0, 1]]), jnp.array([[0.0, -jnp.inf]]))
    found = top_k_divergence(student, *known, "reverse_kl")
    np.testing.assert_allclose(found, [math.log(0.5) - 0.5 * divergences.RULED_OUT], rtol=1e-5)
    live = token_divergence(student, jnp.array([[0.0, -jnp.inf]]), "reverse_kl")
    np.testing.assert_allclose(live, found, rtol=1e-6)


@jax.jit
def class_divergence(scores, probs, temperature):
    """The value and its gradient, of one example."""

    def total(scores):
        return divergences.class_divergence(scores, probs, jnp.ones(probs.shape, jnp.int32), temperature).sum()

    return jax.value_and_grad(total)(scores)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(LOGITS, min_size=4, max_size=4),
    shares=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    temperature=st.sampled_from([0.01, 1.0, 4.0]),
)
def test_all_scores_give_a_finite_class_divergence(scores, shares, temperature):
    probs = np.array(shares) + 1e-3 * (np.arange(len(scores)) == 0)
    probs = jnp.asarray([probs / probs.sum()], jnp.float32)

    value, grad = class_divergence(jnp.array([scores], jnp.float32), probs, temperature)
    assert np.isfinite(value) and np.isfinite(grad).all()


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl"])
def test_token_divergence_is_that_of_torch(kind):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    student, teacher = (rng.normal(size=(4, 9)).astype(np.float32) * 5 for _ in range(2))
    log_q, log_p = (torch.log_softmax(torch.tensor(x) / 2.0, -1) for x in (student, teacher))
    pair = (log_q, log_p) if kind == "forward_kl" else (log_p, log_q)
    expected = 4.0 * torch.nn.functional.kl_div(*pair, log_target=True, reduction="none").sum(-1)
    found = token_divergence(student, teacher, kind, 2.0)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)
