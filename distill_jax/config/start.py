"""Options of what a student starts from: a checkpoint, which brings its vocabulary, or nothing."""

from typing import Any

from distill_jax.config.network import ModelOptions
from distill_jax.config.options import Options, fixed, option

SCRATCH = "none"
DEFAULT_START = "hf://google/t5-v1_1-small"  # of the default network; models/t5_1_1/small.gin names it too
SCRATCH_VOCABULARY = "train:2000"
T5_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"  # where a T5 comes without one
VOCABULARY = "bytes, a SentencePiece file or URL, a folder of a run or tokenizer, hf://ORG/NAME, or train:SIZE"


class StartOptions(Options):
    """What the student starts from"""

    initial_checkpoint_path: str | None = fixed(
        None,
        "run, T5X or Hugging Face checkpoint to start from, local, gs:// or hf://ORG/NAME; none: from scratch; "
        f"default the model file's, {DEFAULT_START} of the default network, and from scratch for any other",
        flags=("init",),
        path=True,
    )
    vocabulary: str | None = option(
        None,
        f"{VOCABULARY} to make one of the task's text; default the start checkpoint's, from scratch "
        f"{SCRATCH_VOCABULARY}",
    )

    @property
    def start(self) -> str | None:
        """The checkpoint to start from; None: from scratch."""
        if self.initial_checkpoint_path is None:
            is_default = not isinstance(self, ModelOptions) or self.architecture == _DEFAULT_ARCHITECTURE
            return DEFAULT_START if is_default else None
        return None if self.initial_checkpoint_path == SCRATCH else self.initial_checkpoint_path

    def identity(self) -> dict[str, Any]:
        """See `Options.identity`; the checkpoint by its name, also where it is the default."""
        values = super().identity()
        if self.initial_checkpoint_path in (None, SCRATCH):
            values["initial_checkpoint_path"] = self.start or self.initial_checkpoint_path
        return values


_DEFAULT_ARCHITECTURE = ModelOptions().architecture
