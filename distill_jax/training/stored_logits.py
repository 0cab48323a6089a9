"""A white-box teacher's likeliest next tokens, computed once and stored in the records of a student.

A teacher that runs beside the student costs its forward pass in every epoch, and the memory of its
parameters. Its `k` likeliest tokens at each target position, in records of their own, cost that once.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distill_jax.config import TrainConfig
from distill_jax.data import cache
from distill_jax.data.loader import Loader
from distill_jax.data.prepare import Prepared, hash_of, write_rows
from distill_jax.data.records import Segment, decode_row, open_rows
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.errors import UserError
from distill_jax.models.families import Network
from distill_jax.models.logits import project
from distill_jax.training.initial import load_teacher
from distill_jax.training.losses import Batch, decoder_states


def _fingerprint(params) -> str:
    """Hash of the sums of all parameters: another teacher has others."""
    return hash_of([float(x) for x in jax.tree.leaves(_sums(params))])


@jax.jit
def _sums(params) -> Any:
    return jax.tree.map(lambda x: jnp.sum(jnp.abs(x)), params)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _top_k(model: Network, params, batch: Batch, k: int, vocab_size: int, temperature: float):
    """Of each target position: ids int32 and log-probabilities float32, both [batch, targets, k]."""
    states, kernel = decoder_states(params, model, batch, None)
    kernel = kernel[:, :vocab_size]
    rows, length = batch["decoder_target_tokens"].shape

    def of_row(row):
        logits = project(row, kernel, model.config.logits_cap)
        return jax.lax.top_k(jax.nn.log_softmax(logits / temperature), k)

    log_probs, ids = jax.lax.map(of_row, states.reshape(rows, length, -1))  # [vocab] of one row at a time
    return ids, log_probs


def _with_top_k(segments: list[Segment], ids: np.ndarray, log_probs: np.ndarray) -> list[Segment]:
    """The segments of a row, with their parts of [targets, k]."""
    out, start = [], 0
    for segment in segments:
        part = slice(start, start + len(segment.targets))
        out.append(dataclasses.replace(segment, top_ids=ids[part], top_log_probs=log_probs[part]))
        start = part.stop
    return out


def store_top_k(
    records: Prepared,
    teacher_checkpoint_path: str,
    k: int,
    *,
    vocab_size: int | None = None,
    temperature: float = 1.0,
    batch_size: int = 16,
    verify: bool = True,
) -> Prepared:
    """The records with the teacher's `k` likeliest next tokens, computed now or read from the cache.

    Args:
      records: of `prepare`.
      teacher_checkpoint_path: of `load_teacher`.
      vocab_size: the student's. Ids beyond it (a teacher may be padded to more) are left out before the
        softmax, as beside a live teacher.
      temperature: of the log-probabilities.
      batch_size: rows per batch of the teacher.
      verify: compares the teacher, and what is in the cache, with their checksums.

    Raises:
      UserError: for a teacher that cannot be loaded or has another vocabulary, for a `k` out of its bounds,
        for records of soft labels, and for a full disk.
    """
    if records.manifest["soft"]:
        raise UserError("stored logits are of the views' targets; soft_labels has classes instead")
    model, params = load_teacher(teacher_checkpoint_path, load_vocabulary(records.vocabulary), verify)
    ids_in_use = min(vocab_size or model.config.vocab_size, model.config.vocab_size)
    if not 1 <= k <= ids_in_use:
        raise UserError(f"{TrainConfig.named('teacher_top_k')}: expected 1 to {ids_in_use}, got {k}")
    key = hash_of([records.key, _fingerprint(params), k, ids_in_use, temperature])
    name = records.path.name.removesuffix(records.key)
    folder = records.path.parent / f"{name}top{k}-{key}"
    manifest = records.manifest | {"top_k": k, "temperature": temperature}

    def rows() -> Iterator[list[Segment]]:
        loader = Loader(records.path, batch_size, seed=0, shuffle=False, num_epochs=1, pad_last=True)
        encoded = iter(open_rows(records.path)[0])
        with contextlib.closing(loader):
            for batch in loader:
                ids, log_probs = jax.device_get(_top_k(model, params, batch, k, ids_in_use, temperature))
                for row_ids, row_log_probs, record in zip(ids, log_probs, encoded, strict=False):
                    yield _with_top_k(decode_row(record), row_ids, row_log_probs)

    def make(temporary: pathlib.Path) -> None:
        write_rows(temporary / "rows.array_record", rows())
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")

    cache.made(folder, make, verify)
    return dataclasses.replace(records, path=folder, key=key, manifest=manifest)
