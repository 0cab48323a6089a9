"""Checkpoints of others, T5X's and Hugging Face's, read and written without the code they come from.

In goes a folder of T5X (msgpack and Zarr, or Orbax) or of Hugging Face (safetensors and tokenizer files), out
comes a mapping from our parameter names to `parameters.Parameter`, and the other way round.
"""
