"""One of our own students as the teacher of another."""

import json
from collections.abc import Sequence

from distill_jax.checkpoints import orbax as checkpoints
from distill_jax.decoding.predict import Request as Asked
from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError
from distill_jax.teachers import parsing
from distill_jax.teachers.microbatch import MicroBatcher
from distill_jax.teachers.protocol import Completion, Reply, Request, TeacherError

BOTH = Asked(rationale=True)


class CheckpointClient:
    """A run by its folder; greedy. It reads the row's input, not the prompt.

    Args:
      model: the run's folder, or `FOLDER@STEP`.
      batch_size: texts decoded at a time.

    Raises:
      UserError: when it is no run, or one without labels and rationales.
    """

    protocol = "checkpoint"
    parser = parsing.JSON

    def __init__(self, model: str, batch_size: int = 64):
        folder, _, step = model.partition("@")
        if step and not step.isdigit():
            raise UserError(f"--model {model}: expected the folder of a run, or FOLDER@STEP")
        self._predictor = Predictor(folder, int(step) if step else None, batch_size)
        self._predictor.views(BOTH)  # refuses a student of labels alone
        self.endpoint = folder
        self._decode = MicroBatcher(self._decode_all, batch_size)

    async def complete(self, request: Request) -> Reply:
        """See `protocol.Client`."""
        if request.sampling.temperature or len(request.samples) > 1:
            raise TeacherError("a checkpoint decodes greedily: temperature 0, one sample", fatal=True)
        label, rationale = await self._decode(request.example)
        text = json.dumps({"rationale": rationale, "label": label}, ensure_ascii=False)
        return Reply([Completion(text)], model=self.endpoint)

    def _decode_all(self, examples: Sequence) -> list[tuple[str, str]]:
        """(label, rationale) of each row."""
        said = self._predictor.predict_examples(examples, BOTH)
        return [(prediction.label, prediction.rationale) for prediction in said]

    async def close(self) -> None:
        """See `protocol.Client`."""


def name_with_step(model: str) -> str:
    """`FOLDER@STEP` of the latest checkpoint, so that further training makes another teacher of it."""
    if "@" in model:
        return model
    return f"{model}@{checkpoints.pick_step(model)}"
