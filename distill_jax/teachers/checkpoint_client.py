"""One of our own students as the teacher of another."""

import json
from collections.abc import Sequence

from distill_jax.errors import UserError
from distill_jax.evaluation.decoder import decode_texts
from distill_jax.evaluation.evaluator import LABEL_LENGTH
from distill_jax.evaluation.student import load_student
from distill_jax.teachers import parsing
from distill_jax.teachers.microbatch import MicroBatcher
from distill_jax.teachers.protocol import Completion, Reply, Request, TeacherError
from distill_jax.training import checkpoints


class CheckpointClient:
    """A run of `step_by_step` by the folder; greedy. It reads the row's input, not the prompt.

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
        self._student = load_student(folder)
        self._views = {view.name: view for view in self._student.views}
        if not {"label", "rationale"} <= set(self._views):
            raise UserError(
                f"{folder}: a student of {self._student.run.mixture_or_task_name} gives no rationales: a "
                "teacher must be trained by step_by_step"
            )
        self._params = self._student.params(int(step) if step else None)
        self.endpoint = folder
        self._batch_size = batch_size
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
        lengths, decoded = self._student.lengths, []
        for name in ("label", "rationale"):
            view, targets = self._views[name], lengths["targets"]
            texts = decode_texts(
                self._params,
                self._student.model,
                self._student.vocabulary,
                [view.inputs(example) for example in examples],
                batch_size=self._batch_size,
                inputs_length=lengths["inputs"],
                targets_length=min(targets, LABEL_LENGTH) if name == "label" else targets,
            )
            decoded.append([text for text, _ in texts])
        return list(zip(*decoded, strict=True))

    async def close(self) -> None:
        """See `protocol.Client`."""


def name_with_step(model: str) -> str:
    """`FOLDER@STEP` of the latest checkpoint, so that further training makes another teacher of it."""
    if "@" in model:
        return model
    return f"{model}@{checkpoints.steps(model)[-1]}"
