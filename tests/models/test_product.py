import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.models.product import product, transposed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_is_the_products(dtype):
    key = jax.random.key(0)
    x, y, grad = (jax.random.normal(key, shape).astype(dtype) for shape in ((5, 3), (3, 4), (5, 4)))
    value, pull = jax.vjp(jax.jit(product), x, y)
    expected, expected_pull = jax.vjp(jnp.matmul, x, y)
    assert value.dtype == dtype
    for one, other in zip([value, *pull(grad)], [expected, *expected_pull(grad)], strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_product_has_a_transposed_left_side():
    def loss(x, y):
        return jnp.sum(product(x, y) ** 2)

    text = jax.jit(jax.grad(loss, argnums=1)).lower(jnp.ones((64, 32)), jnp.ones((32, 48))).as_text()
    assert text.count("dot_general") == 2
    assert text.count("contracting_dims = [1] x [0]") == 2
    np.testing.assert_array_equal(transposed(jnp.arange(6).reshape(2, 3)), [[0, 3], [1, 4], [2, 5]])


def test_what_comes_before_a_product_is_not_computed_anew_in_its_transpose():
    def loss(y, x, key):
        kept = jax.random.bernoulli(key, 0.9, (4, 1, 256))
        dropped = jnp.where(kept, jax.nn.gelu(x).reshape(4, -1, 256) / 0.9, 0.0)
        return jnp.sum(product(dropped.reshape(x.shape), y) ** 2)

    arguments = jnp.ones((256, 128)), jnp.ones((512, 256)), jax.random.key(0)
    text = jax.jit(jax.grad(loss)).lower(*arguments).compile().as_text()
    written = re.findall(r" = f32\[256,512\]\S* (\w+)\(", text)
    assert {"transpose", "copy"} & set(written), text
    assert "fusion" not in written, text
