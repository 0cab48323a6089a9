"""The students that are measured: without dropout."""

from distill_jax.config import ModelOptions, Sources, build
from distill_jax.models.config import ModelConfig
from distill_jax.models.families import make_config

IDS = 32_128  # where the size leaves them to the vocabulary, as tiny does
STARTS = {"t5gemma": 2}  # what the decoder reads first, by the network's family; else 0, the padding


def config(size: str = "small", dtype: str = "float32", family: str = "t5_1_1", **changes) -> ModelConfig:
    """A size of a family, of `gin_configs/models`.

    Dropout is off: what is compared is the computation, and its random numbers are another in each library.

    Args:
      size: a name in the family's folder, such as small.
      dtype: of activations and matrix products.
      family: the folder.
      changes: other fields of the config.
    """
    fields = {"dtype": dtype, "dropout_rate": 0.0} | changes
    shape = build(ModelOptions, Sources(model=f"{family}/{size}"), **fields).shape
    return make_config(shape | {"vocab_size": shape["vocab_size"] or IDS})
