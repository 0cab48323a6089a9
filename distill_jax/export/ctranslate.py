"""CTranslate2's format, by its own converter, from a folder that transformers loads."""

import pathlib
import shutil

from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig

# Those whose labels are the student's own after CTranslate2's conversion; tests/export proves it for each.
FAMILIES = ("t5", "umt5", "llama")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
_NEEDED = {"ctranslate2", "torch", "transformers"}


def check(config: ModelConfig) -> None:
    """Raises UserError for a family that is not offered, and where a package is missing."""
    if config.family not in FAMILIES:
        raise UserError(
            f"a {config.family} cannot be exported to ctranslate2, which is offered for "
            f"{' and '.join(FAMILIES)} alone: give --to huggingface"
        )
    _converters()


def _converters():
    try:
        import torch  # noqa: F401  the converter needs both, and names them less clearly
        import transformers  # noqa: F401
        from ctranslate2 import converters
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise UserError(
            f"--to ctranslate2 needs {error.name}: pip install 'distill_jax[ctranslate2,transformers]'"
        ) from None
    return converters


def convert(folder: pathlib.Path, config: ModelConfig, dtype: str) -> None:
    """Turns a folder of transformers into one of CTranslate2; the tokenizer's files stay.

    Raises:
      UserError: when the converter refuses the model.
    """
    converters = _converters()

    class _Converter(converters.TransformersConverter):
        def load_model(self, *args, **options):
            model = super().load_model(*args, **options)
            # transformers 5 says `tie_word_embeddings` of every T5, and elsewhere whether logits are scaled:
            # the converter would scale the logits of a T5 1.1.
            model.config.tie_word_embeddings = config.logits_via_embedding
            return model

        def load_tokenizer(self, *args, **options):
            tokenizer = super().load_tokenizer(*args, **options)
            # CTranslate2 wants a text for each; a byte-level vocabulary has neither, and its prompts are whole.
            tokenizer.bos_token = tokenizer.bos_token or tokenizer.eos_token
            tokenizer.unk_token = tokenizer.unk_token or tokenizer.eos_token
            return tokenizer

    converted = folder / "ctranslate2"
    try:
        _Converter(str(folder)).convert(str(converted), quantization=dtype)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"CTranslate2's converter: {' '.join(str(error).split())}") from error
    for path in list(folder.iterdir()):
        if path.is_file() and path.name not in _TOKENIZER:
            path.unlink()
    for path in list(converted.iterdir()):
        shutil.move(path, folder / path.name)
    converted.rmdir()
