"""The matrix product, with a gradient that XLA on CPU computes as quickly as the product itself."""

import jax


def transposed(x: jax.Array) -> jax.Array:
    """[m, n] -> [n, m], for the left side of a product.

    XLA's fast product on CPU (YNNPACK) does not support a transposed left side. XLA then uses Eigen's, which
    is a fifth slower on one core and a quarter on two. So the transpose is materialized on CPU, between
    optimization barriers that keep XLA from folding it back into the product.
    """
    if jax.default_backend() != "cpu":
        return x.T
    return jax.lax.optimization_barrier(jax.lax.optimization_barrier(x).T)


@jax.custom_vjp
def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x @ y`: [m, k], [k, n] -> [m, n]."""
    return x @ y


def _backward(residuals, grad):
    x, y = residuals
    return grad @ y.T, transposed(x) @ grad


product.defvjp(lambda x, y: (x @ y, (x, y)), _backward)
