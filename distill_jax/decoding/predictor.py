"""A student that is loaded once and predicts often: what `distill_jax.load` returns."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill_jax.checkpoints import orbax as checkpoints
from distill_jax.config import Decoding
from distill_jax.config.student import StudentOptions
from distill_jax.data.schema import Example
from distill_jax.data.views import View
from distill_jax.decoding.predict import Prediction, Request, check_examples, needed_views, predict
from distill_jax.decoding.student import load_student
from distill_jax.errors import UserError


class Predictor:
    """A trained student; takes the arguments of `distill_jax.load` and raises what it does.

    Programs are compiled on first use, for few shapes (input lengths double, batch sizes quadruple), and
    reused by every later call of any size.
    """

    def __init__(
        self,
        model_dir: str,
        step: int | str | None = None,
        batch_size: int = 64,
        weights: str = "float32",
        verify: bool = True,
        trust: bool = False,
        engine: str = "jax",
    ):
        if batch_size < 1:
            raise UserError(f"batch_size: expected 1 or more, got {batch_size}")
        self.student = load_student(str(model_dir), trusted=trust)
        self.step = checkpoints.pick_step(str(model_dir), step)
        self.engine = self.student.engine(self.step, batch_size, weights, verify, engine)

    @classmethod
    def of(cls, config: StudentOptions) -> "Predictor":
        """The student that a command's options name."""
        options = {"verify": config.verify_checksums, "trust": config.trust, "engine": config.engine}
        return cls(config.model_dir, config.step, config.batch_size, config.weights, **options)

    def predict(
        self,
        inputs: Sequence[str | Mapping[str, Any]],
        *,
        label: bool = True,
        rationale: bool = False,
        label_by: str = "generate",
        normalize_scores: bool = False,
        streams: Sequence[int] | None = None,
        **decoding,
    ) -> list[Prediction]:
        """Predictions, one of each input, in order.

        Args:
          inputs: texts, or dicts with the text under `input` and, where needed, `choices` (a list of labels to
            rank) and `rationale` (for a student of `rationale_input`).
          label, rationale: whether to predict it.
          label_by: `generate`; `rank` for the likeliest of the input's choices or the task's classes;
            `constrain` for what is written where only these can be.
          normalize_scores: rank by the mean log-probability of a label's tokens; default by their sum.
          streams: see `Engine.generate`; default each input's place.
          **decoding: fields of `Decoding`: num_beams, length_penalty, beam_rule, temperature,
            top_k, top_p, n_best, seed.

        Raises:
          UserError: for an input that is neither, settings that do not go together, and a student that
            predicts no such thing.
        """
        if isinstance(inputs, str):
            raise UserError("expected a list of inputs, got a single text")
        request = Request(label, rationale, label_by, normalize_scores, Decoding(**decoding))
        examples = [to_example(number, item) for number, item in enumerate(inputs)]
        return self.predict_examples(examples, request, streams)

    def views(self, request: Request) -> list[View]:
        """The views that a request needs; UserError when student or engine cannot do what is asked."""
        self.engine.check(request.decoding, request.label_by if request.label else "generate")
        return needed_views(self.student.views, request, self.student.run.mixture_or_task_name)

    def check(self, examples: Sequence[Example], request: Request) -> None:
        """Raises UserError, naming the example, when one lacks what the student needs for the request."""
        if any(view.reads_rationale for view in self.views(request)):
            lacking = next((example for example in examples if example.rationale is None), None)
            if lacking is not None:
                raise UserError(f"{lacking.id}: no rationale: this student reads the teacher's with the input")
        check_examples(examples, request, self.student.task.classes)

    def predict_examples(
        self, examples: Sequence[Example], request: Request, streams: Sequence[int] | None = None
    ) -> list[Prediction]:
        """As `predict`, for examples whose ids say where they come from."""
        self.check(examples, request)
        limits = {"targets_length": self.student.lengths["targets"], "classes": self.student.task.classes}
        return predict(self.engine, examples, self.views(request), request, streams=streams, **limits)


def to_example(number: int, item: str | Mapping[str, Any]) -> Example:
    """An input of `Predictor.predict` as an example."""
    fields = {"input": item} if isinstance(item, str) else item
    if not isinstance(fields, Mapping) or not isinstance(fields.get("input"), str):
        raise UserError(f"input {number}: expected a text, or a dict with a text under `input`: {item!r:.60}")
    rationale, choices = fields.get("rationale"), fields.get("choices")
    if not isinstance(rationale, str | None):
        raise UserError(f"input {number}: expected a text under `rationale`, got {rationale!r:.60}")
    if choices is not None:
        is_list = isinstance(choices, Sequence) and not isinstance(choices, str | Mapping)
        if not is_list or not choices or not all(isinstance(choice, str) for choice in choices):
            raise UserError(f"input {number}: expected a list of texts under `choices`, got {choices!r:.60}")
        choices = tuple(dict.fromkeys(choices))
    return Example(f"input {number}", fields["input"], rationale=rationale, choices=choices)
