"""The students that are measured: T5 1.1's sizes, without dropout."""

from distill_jax.config import ModelOptions, Sources, build
from distill_jax.models.config import T5Config
from distill_jax.models.families import make_config


def config(size: str = "small", dtype: str = "float32", **changes) -> T5Config:
    """T5 1.1 of a size in `gin_configs/models/t5_1_1`; `tiny` too has 32,128 ids here.

    Dropout is off: what is compared is the computation, and its random numbers are another in each library.

    Args:
      size: tiny, small, base, large, xl or xxl.
      dtype: of activations and matrix products.
      changes: other fields of `T5Config`.
    """
    fields = {"vocab_size": 32_128, "dtype": dtype, "dropout_rate": 0.0} | changes
    return make_config(build(ModelOptions, Sources(model=size), **fields).shape)
