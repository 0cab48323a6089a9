import pytest

from distill_jax.errors import UserError
from distill_jax.models.config import T5Config


@pytest.mark.parametrize("dtype", ["float16", "int8", "float64"])
def test_other_dtypes_are_refused_with_the_way_out(dtype):
    with pytest.raises(UserError, match=f"^dtype: '{dtype}'.*: use bfloat16 or float32$"):
        T5Config(vocab_size=128, dtype=dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_these_are_taken(dtype):
    assert T5Config(vocab_size=128, dtype=dtype).dtype == dtype
