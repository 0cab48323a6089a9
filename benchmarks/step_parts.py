"""Where the time of our train step goes: its parts alone, beside the whole.

    python -m benchmarks.run --only step_parts

Each part is the code that the step runs, on arrays of the step's shapes, forward and backward:

- products: of all projections and of the logits;
- attention: what the attention layers take beyond their projections;
- optimizer: clipping and AdamW;
- rest: the step without these: norms, gates, residuals, the loss, and what XLA waits for between them.
"""

import collections
import functools
import statistics
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import optax

from benchmarks import fabricated, ours, students
from benchmarks.contestants import LEARNING_RATE
from benchmarks.settings import Settings
from distill_jax.cli import host_memory
from distill_jax.models.config import T5Config
from distill_jax.models.layers import Attention
from distill_jax.models.product import product
from distill_jax.models.t5 import Transformer
from distill_jax.training import optimizers, train_state

LENGTHS, ROWS = (256, 96), 6  # about 16 pairs
Shape = tuple[int, int, int]  # of a product [m, k] @ [k, n]


def products(config: T5Config, rows: int, lengths: tuple[int, int]) -> collections.Counter[Shape]:
    """How often the forward pass has a product of each shape."""
    inputs, targets = (rows * length for length in lengths)
    width, heads, hidden = config.emb_dim, config.num_heads * config.head_dim, config.mlp_dim
    found: collections.Counter[Shape] = collections.Counter({(targets, width, config.vocab_size): 1})
    for tokens, layers, asking in (
        (inputs, config.num_encoder_layers, 3),  # query, key and value
        (targets, config.num_decoder_layers, 4),  # and the query of the attention to the inputs
    ):
        found[tokens, width, heads] += asking * layers
        found[tokens, heads, width] += (asking - 2) * layers
        found[tokens, width, hidden] += len(config.mlp_activations) * layers
        found[tokens, hidden, width] += layers
    found[inputs, width, heads] += 2 * config.num_decoder_layers  # keys and values of the inputs
    return found


def flops(shapes: collections.Counter[Shape]) -> float:
    """Operations of these products, forward and backward."""
    return sum(3 * 2.0 * m * k * n * count for (m, k, n), count in shapes.items())


def _seconds(run: Callable[[], object], repeats: int) -> float:
    """The median of some runs, after one."""

    def once() -> float:
        began = time.perf_counter()
        jax.block_until_ready(run())
        return time.perf_counter() - began

    once()
    return statistics.median(once() for _ in range(repeats))


def _normal(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(sum(shape)), shape)


@jax.jit
def _both_ways(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple:
    y, backward = jax.vjp(product, x, kernel)
    return y, backward(grad)


def _of_products(shapes: collections.Counter[Shape], repeats: int) -> float:
    def one(m: int, k: int, n: int) -> float:
        run = functools.partial(_both_ways, _normal(m, k), _normal(k, n), _normal(m, n))
        return _seconds(run, repeats)

    return sum(count * one(*shape) for shape, count in shapes.items())


def _attentions(config: T5Config, lengths: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    """(layers, queries, keys) of each kind of attention."""
    inputs, targets = lengths
    yield config.num_encoder_layers, inputs, inputs
    yield config.num_decoder_layers, targets, targets
    yield config.num_decoder_layers, targets, inputs


def _of_attention(config: T5Config, rows: int, lengths: tuple[int, int], repeats: int) -> float:
    module, heads = Attention(config, deterministic=True), config.num_heads * config.head_dim
    total = 0.0
    for layers, queries, keys in _attentions(config, lengths):
        x, bias = _normal(rows, queries, config.emb_dim), _normal(rows, config.num_heads, queries, keys)
        source = x if queries == keys else _normal(rows, keys, config.emb_dim)
        params = module.init(jax.random.key(0), x, source, bias, None)["params"]

        @jax.jit
        def both_ways(params, x, source, bias, grad):
            def attend(params, x, source, bias):
                return module.apply({"params": params}, x, source, bias, None)

            y, backward = jax.vjp(attend, params, x, source, bias)
            return y, backward(grad)

        own = collections.Counter({(rows * queries, config.emb_dim, heads): 1})
        own[rows * queries, heads, config.emb_dim] += 1
        own[rows * keys, config.emb_dim, heads] += 2
        whole = _seconds(functools.partial(both_ways, params, x, source, bias, x), repeats)
        total += layers * (whole - _of_products(own, repeats))
    return total


def _of_optimizer(params, repeats: int) -> float:
    optimizer = optimizers.adamw(LEARNING_RATE)
    state = jax.tree.map(jnp.array, params), jax.jit(optimizer.init)(params)
    grads = jax.tree.map(lambda x: 0.01 * x, params)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state, grads):
        updates, moments = optimizer.update(grads, state[1], state[0])
        return optax.apply_updates(state[0], updates), moments

    def run():
        nonlocal state
        state = update(state, grads)
        return state

    return _seconds(run, repeats)


def run(settings: Settings, rows: int = ROWS, lengths: tuple[int, int] = LENGTHS) -> dict:
    """Seconds of a step and of its parts, medians, and the operations of its products."""
    host_memory.keep_freed()
    config = students.config(settings.size, settings.dtype)
    params = train_state.init_params(Transformer(config), 0)
    batches, pairs, _ = fabricated.packed(fabricated.pairs(4 * rows), lengths, rows)
    one = ours.contestant(config, params, batches, pairs, {})
    repeats, shapes = 3 * settings.repeats, products(config, rows, lengths)
    found = {
        "step": _seconds(lambda: one.step(0), repeats),
        "products": _of_products(shapes, repeats),
        "attention": _of_attention(config, rows, lengths, repeats),
        "optimizer": _of_optimizer(params, repeats),
    }
    found["rest"] = 2 * found["step"] - sum(found.values())
    return {"rows": rows, "lengths": lengths, "seconds": found, "products_flops": flops(shapes)}
