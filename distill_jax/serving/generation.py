"""A student's answer as one text, with the log-probability of each piece: what a chat endpoint returns."""

import dataclasses
import itertools
import json
import string
from collections.abc import Callable, Mapping, Sequence

from distill_jax.config import Decoding
from distill_jax.data.schema import Example
from distill_jax.data.views import ANSWER, View
from distill_jax.data.vocabularies import END, Vocabulary
from distill_jax.decoding.engine_base import BaseEngine, Hypothesis, TokenScore
from distill_jax.decoding.predict import own_decoding
from distill_jax.errors import UserError

TEMPLATE = f"{{rationale}}{ANSWER}{{label}}"
JSON = "json"  # the template of an answer such as `{"rationale": "…", "label": "…"}`


@dataclasses.dataclass(frozen=True)
class Form:
    """The views to decode, and what an answer is made of: fixed texts, and views whose texts stand there.

    In `json`, they stand there as JSON's strings have them.
    """

    views: tuple[View, ...]
    parts: tuple[str | View, ...]
    json: bool = False


def forms(views: Sequence[View], template: str | None = None) -> dict[str, Form]:
    """The answers a student can give, by the suffix of the model's name.

    "" is the whole answer: the template, which by default is the rationale, then the label, where the student
    has both views. `:label` and `:rationale` are one view alone. A template has `{label}`, `{rationale}` or
    both, or is `json`; raises UserError when it has another field, or a view that the student does not have.
    """
    by_name = {view.name: view for view in views}
    as_json = template == JSON
    if as_json and not by_name.keys() <= {"label", "rationale"}:
        raise UserError(f"--template json needs a student of label and rationale, not of {', '.join(by_name)}")
    if as_json:
        fields = ", ".join(f'"{name}": "{{{name}}}"' for name in sorted(by_name, reverse=True))
        template = f"{{{{{fields}}}}}"
    elif template is None:
        template = TEMPLATE if len(by_name) == 2 else f"{{{next(iter(by_name))}}}"
    parts: list[str | View] = []
    try:
        for literal, field, spec, conversion in string.Formatter().parse(template):
            if spec or conversion:
                raise ValueError("a field has nothing but a name")
            parts += [literal] if literal else []
            parts += [] if field is None else [by_name[field]]
    except (KeyError, ValueError) as error:
        known = ", ".join(f"{{{name}}}" for name in by_name)
        raise UserError(f"--template {template!r}: {error}: this student has {known}") from None
    used = tuple(dict.fromkeys(part for part in parts if isinstance(part, View)))
    if not used:
        raise UserError(f"--template {template!r}: has no field, so every answer would be the same")
    by_suffix = {"": Form(used, tuple(parts), as_json)}
    if len(by_name) == 2:
        by_suffix |= {f":{name}": Form((view,), (view,)) for name, view in by_name.items()}
    return by_suffix


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """The text of a token, its log-probability, and the likeliest texts in its place with theirs."""

    text: str
    log_prob: float
    likeliest: tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """An answer, and the number of tokens that were decoded.

    Attributes:
      ended: whether the student wrote the end token, in each view.
      pieces: of the text, where they were asked for; what the template adds has log-probability 0.
    """

    text: str
    tokens: int
    ended: bool
    pieces: tuple[Piece, ...] | None


def generate(
    engine: BaseEngine,
    form: Form,
    examples: Sequence[Example],
    decoding: Decoding,
    streams: Sequence[int],
    *,
    targets_length: int,
    with_pieces: bool,
) -> list[list[Generation]]:
    """The `decoding.n_best` answers to each example.

    Args:
      examples: only `input` is read, and `rationale` where the student reads it.
      decoding: how each view is decoded; answer k is made of the k-th of each.
      streams: as of `Engine.generate`.
      targets_length: tokens of a view at most.
      with_pieces: whether to give `Generation.pieces`.
    """
    hypotheses: dict[str, list[tuple[Hypothesis, ...]]] = {}
    pieces: dict[str, list[list[list[Piece]]]] = {}
    for view in form.views:
        texts = [view.inputs(example) for example in examples]
        settings = own_decoding(view, decoding)
        hypotheses[view.name] = engine.generate(texts, targets_length, settings, streams, view.start)
        if with_pieces:
            tokens = [[hypothesis.tokens for hypothesis in some] for some in hypotheses[view.name]]
            scores = engine.token_scores(texts, tokens, view.start)
            pieces[view.name] = [[_pieces(engine.vocabulary, each) for each in some] for some in scores]

    def answer(item: int, k: int) -> Generation:
        texts = {name: of_view[item][k] for name, of_view in hypotheses.items()}
        parts = {name: of_view[item][k] for name, of_view in pieces.items()}
        return _assembled(form, texts, parts if with_pieces else None, engine.vocabulary.eos_id)

    return [[answer(item, k) for k in range(decoding.n_best)] for item in range(len(examples))]


def _assembled(
    form: Form, hypotheses: Mapping[str, Hypothesis], pieces: Mapping[str, list[Piece]] | None, end_id: int
) -> Generation:
    """An answer from the texts of its views."""
    shown = _in_json if form.json else str
    text = "".join(part if isinstance(part, str) else shown(hypotheses[part.name].text) for part in form.parts)
    whole = None
    if pieces is not None:
        parts = (
            [Piece(part, 0.0, ((part, 0.0),))]
            if isinstance(part, str)
            else [_shown(piece, shown) for piece in pieces[part.name]]
            for part in form.parts
        )
        whole = tuple(itertools.chain.from_iterable(parts))
    tokens = sum(len(hypothesis.tokens) for hypothesis in hypotheses.values())
    ended = all(hypothesis.tokens[-1] == end_id for hypothesis in hypotheses.values())
    return Generation(text, tokens, ended, whole)


def _in_json(text: str) -> str:
    """`text` between the quotes of a string of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _shown(piece: Piece, shown: Callable[[str], str]) -> Piece:
    likeliest = tuple((text if text == END else shown(text), log_prob) for text, log_prob in piece.likeliest)
    return Piece(shown(piece.text), piece.log_prob, likeliest)


def _pieces(vocabulary: Vocabulary, scores: Sequence[TokenScore]) -> list[Piece]:
    """The tokens before the end token, each with the text that it adds to those before it."""
    pieces, ids, text = [], [], ""
    end = vocabulary.eos_id
    for score in scores:
        if score.token == end:
            break
        before = vocabulary.decode(ids[-1:])
        likeliest = tuple(
            (
                END if token == vocabulary.eos_id else vocabulary.decode([*ids[-1:], token])[len(before) :],
                log_prob,
            )
            for token, log_prob in score.likeliest
        )
        ids.append(score.token)
        longer = vocabulary.decode(ids)
        pieces.append(Piece(longer[len(text) :], score.log_prob, likeliest))
        text = longer
    return pieces
