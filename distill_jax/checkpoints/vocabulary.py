"""The vocabulary of a configuration: as it is given, or that of the checkpoint to start from."""

import pathlib

from distill_jax.checkpoints import hub, remote
from distill_jax.checkpoints.layout import RUN
from distill_jax.checkpoints.other_formats.tokenizer_files import read_tokenizer
from distill_jax.checkpoints.reading import RUN_OF_EXPORT, Checkpoint, open_checkpoint
from distill_jax.config.start import SCRATCH_VOCABULARY, T5_VOCABULARY
from distill_jax.data import cache
from distill_jax.data.vocabularies import Vocabulary, load_vocabulary
from distill_jax.data.vocabulary_base import digest
from distill_jax.errors import UserError

# Of the formats whose checkpoints are published without theirs.
_PUBLISHED = {
    "t5x": T5_VOCABULARY,
    "t5x-orbax": T5_VOCABULARY,
    "t5gemma-flax": "gs://gemma-data/tokenizers/tokenizer_gemma2.model",
}


def vocabulary_spec(given: str | None, start: str | None, opened: Checkpoint | None = None) -> str:
    """What `data.prepare` and `load_vocabulary` take for the vocabulary that a configuration means.

    Args:
      given: the option; None is that of `start`, or one trained on the task's text. A folder of a Hugging Face
        tokenizer, also `hf://ORG/NAME`, is read once and becomes a folder in the cache.
      start: the checkpoint to start from; None: from scratch.
      opened: that checkpoint, where it is open.

    Raises:
      UserError: when the checkpoint has no vocabulary, or it cannot be fetched or read.
    """
    if given is not None:
        is_tokenizer = given.startswith("hf://") or not given.startswith("train:") and _is_tokenizer(given)
        return _stored(_read(given, given)) if is_tokenizer else given
    if start is None:
        return SCRATCH_VOCABULARY
    if opened is None and start.startswith("hf://"):
        return _stored(_read(start, start))
    checkpoint = opened or open_checkpoint(start, verify=False)  # no parameter of it is read
    vocabulary = checkpoint.vocabulary()
    if vocabulary is None and checkpoint.format in _PUBLISHED:
        return _PUBLISHED[checkpoint.format]
    return _stored(vocabulary if vocabulary is not None else _none(start))


def _is_tokenizer(folder: str) -> bool:
    """Whether `load_vocabulary` cannot read a folder that `read_tokenizer` can."""
    path = pathlib.Path(folder)
    names = ("tokenizer_config.json", "tokenizer.json", "spiece.model", "tokenizer.model")
    return not (path / "vocabulary.json").exists() and any((path / name).exists() for name in names)


def _read(url: str, name: str) -> Vocabulary:
    """The vocabulary of a folder or a repository of the hub, of which nothing else is fetched."""
    folder = hub.fetch(url, weights=False) if remote.is_remote(url) else pathlib.Path(url)
    exported = folder / RUN_OF_EXPORT
    if (exported / RUN).exists() and (exported / "vocabulary.json").exists():
        return load_vocabulary(exported)
    found = read_tokenizer(folder)
    return found if found is not None else _none(name)


def _none(start: str):
    raise UserError(
        f"{start}: has no vocabulary: give it with --vocabulary (bytes, a SentencePiece file or URL, a folder)"
    )


def _stored(vocabulary: Vocabulary) -> str:
    """A folder of the cache that holds a vocabulary, by its fingerprint."""
    return str(cache.made(cache.cache_dir() / "vocabularies" / digest(vocabulary.fingerprint), vocabulary.save))
