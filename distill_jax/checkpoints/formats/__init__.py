"""The layouts of checkpoints that others read and write: T5X's two, and Hugging Face's."""
