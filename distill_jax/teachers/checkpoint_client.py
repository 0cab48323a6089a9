"""One of our own students as the teacher of another."""

from collections.abc import Sequence

from distill_jax.checkpoints import orbax as checkpoints
from distill_jax.data.schema import Example
from distill_jax.decoding.microbatch import MicroBatcher
from distill_jax.decoding.predict import Prediction
from distill_jax.decoding.predict import Request as PredictRequest
from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError
from distill_jax.teachers import parsing
from distill_jax.teachers.messages import Answer, Client, Reply, Request, TeacherError

BOTH = PredictRequest(rationale=True)


class CheckpointClient(Client):
    """A run, decoded greedily. It reads the row's input, not the prompt.

    `model` is the run's folder, or `FOLDER@STEP` with a number, `latest` (the default) or `best`; `engine` and
    `weights` are as of `distill_jax.load`.

    Raises:
      UserError: when it is no run, or one without labels and rationales, or the engine cannot run it; see
        `checkpoints.trust` for `trust`.
    """

    protocol = "checkpoint"
    parser = parsing.JSON
    batches = True

    def __init__(
        self,
        model: str,
        batch_size: int = 64,
        trust: bool = False,
        engine: str = "jax",
        weights: str = "float32",
    ):
        folder, step = _folder_and_step(model)
        self._predictor = Predictor(folder, step, batch_size, weights, trust=trust, engine=engine)
        self._predictor.views(BOTH)  # refuses a student of labels alone
        self.endpoint = folder
        self._batcher = MicroBatcher(self._predict, batch_size=batch_size)

    async def complete(self, request: Request) -> Reply:
        if request.sampling.temperature or len(request.samples) > 1:
            raise TeacherError("a checkpoint decodes greedily: temperature 0, one sample", fatal=True)
        [prediction] = await self._batcher.submit(None, [request.example])
        text = parsing.written_json(prediction.rationale, prediction.label)
        return Reply([Answer(text)], 0, 0, self.endpoint)  # it is not paid by tokens

    def _predict(self, _key: None, examples: Sequence[Example]) -> list[Prediction]:
        return self._predictor.predict_examples(examples, BOTH)

    async def close(self) -> None:
        await self._batcher.close()


def _folder_and_step(model: str) -> tuple[str, int | str]:
    folder, _, step = model.partition("@")
    if step and not step.isdigit() and step not in ("latest", "best"):
        raise UserError(f"--model {model}: expected the folder of a run, or FOLDER@STEP")
    return folder, int(step) if step.isdigit() else step or "latest"


def name_with_step(model: str, engine: str = "jax", weights: str = "float32") -> str:
    """`FOLDER@NUMBER`, so that after further training the run counts as another teacher.

    Quantized it is another one too, and each engine's quantization gives answers of its own.
    """
    folder, step = _folder_and_step(model)
    quantized = "" if weights == "float32" else f" {weights} {engine}"
    return f"{folder}@{checkpoints.pick_step(folder, step)}{quantized}"
