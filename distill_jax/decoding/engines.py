"""Which engine decodes: JAX's, CTranslate2's, or of each call the faster one that gives the same answers."""

import logging
import threading
from collections.abc import Callable

import jax

from distill_jax.config import Decoding
from distill_jax.decoding import ctranslate
from distill_jax.decoding.engine_base import BaseEngine
from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig

log = logging.getLogger("distill_jax")


def pick(
    name: str,
    config: ModelConfig,
    weights: str,
    *,
    in_jax: Callable[[], BaseEngine],
    in_ctranslate2: Callable[[], BaseEngine],
) -> BaseEngine:
    """The engine of the option `engine`; the functions make the two that there are.

    Where `auto` cannot have CTranslate2, a line says why.

    Raises:
      UserError: where CTranslate2 is asked for and cannot run the network here, with a reason and what to do.
    """
    if name == "jax":
        return in_jax()
    reason = ctranslate.unavailable(config, weights)
    if name == "ctranslate2":
        if reason:
            raise UserError(f"--engine ctranslate2: {reason}; or give --engine jax")
        return in_ctranslate2()
    if reason := _other_answers(config, weights) or reason:
        log.warning("--engine auto takes JAX: %s", reason)
        return in_jax()
    return AutoEngine(in_ctranslate2(), in_jax)


def _other_answers(config: ModelConfig, weights: str) -> str | None:
    if jax.default_backend() != "cpu":
        return f"it has a {jax.default_backend()} here"
    if weights != "float32" or config.dtype != "float32":
        return "CTranslate2 gives the same answers in float32 alone"
    return None


class AutoEngine(BaseEngine):
    """CTranslate2 for greedy texts; JAX for all else, when it is first needed, which a line tells.

    Labels are ranked in JAX, which encodes an input once for all of its labels.
    """

    def __init__(self, fast: BaseEngine, make_other: Callable[[], BaseEngine]):
        self.vocabulary, self.inputs_length, self.batch_size = (
            fast.vocabulary,
            fast.inputs_length,
            fast.batch_size,
        )
        self._fast, self._other = fast, None
        self._make_other, self._lock = make_other, threading.Lock()

    def refusal(self, decoding=Decoding(), label_by="generate", likeliest=False):
        return None

    def _for(self, reason: str) -> BaseEngine:
        with self._lock:  # a server has two threads
            if self._other is None:
                log.warning("--engine auto takes JAX too: %s", reason)
                self._other = self._make_other()
            return self._other

    def generate(self, texts, targets_length, decoding=Decoding(), streams=None, start=0):
        reason = self._fast.refusal(decoding)
        engine = self._for(reason) if reason else self._fast
        return engine.generate(texts, targets_length, decoding, streams, start)

    def choose(self, texts, choices):
        return self._for("labels are constrained").choose(texts, choices)

    def score(self, texts, targets, starts=None):
        return self._for("labels are ranked").score(texts, targets, starts)

    def token_scores(self, texts, targets, start=0):
        return self._for("log-probabilities of tokens are asked").token_scores(texts, targets, start)
