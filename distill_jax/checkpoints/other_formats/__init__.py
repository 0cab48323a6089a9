"""Checkpoints of others, T5X's, Hugging Face's and Gemma's, read and written without the code they come from.

In goes a folder of T5X (msgpack and Zarr, or Orbax), of Hugging Face (safetensors and tokenizer files) or of
T5Gemma in Flax (Orbax), out comes a mapping from our parameter names to `parameters.Parameter`, and the other
way round. `<family>_names` has what is of one family.
"""
