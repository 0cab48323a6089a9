"""From a run's folder to one that transformers or CTranslate2 loads, with a model card."""

import dataclasses
import math
import pathlib

from distill_jax import files
from distill_jax.checkpoints import orbax, remote
from distill_jax.checkpoints.convert import write_transformers
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.config import ExportConfig
from distill_jax.decoding.student import load_student
from distill_jax.errors import UserError
from distill_jax.export import ctranslate, hub
from distill_jax.export.card import card
from distill_jax.export.facts import gather


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written: for the user to read.

    Attributes:
      folder: the result.
      step: of the checkpoint.
      parameters: how many numbers the weights are.
      evaluations: how many evaluations of the checkpoint the card has.
      address: of the repository it was put into; None without one.
    """

    folder: str
    step: int
    parameters: int
    evaluations: int
    address: str | None = None


def export(config: ExportConfig) -> Exported:
    """Writes the folder, whole or not at all, then puts it into a repository where that is asked for.

    Of the run's folder nothing else goes along: no path of the machine that trained it is in the result. One
    parameter is held in memory at a time; for CTranslate2, whose converter loads the model, all of them.

    Raises:
      UserError: for a folder that is no run, a checkpoint that is not there, a destination that is, a family
        that the format does not have, a package that is not installed, and a push that fails.
    """
    folder = pathlib.Path(config.folder)
    if remote.is_remote(config.folder):
        raise UserError(f"{config.folder}: write to a local folder, and give --push ORG/NAME to publish it")
    files.refuse_existing(folder, config.elsewhere)
    student = load_student(config.model_dir, config.data_dir, config.trust)
    if config.to == "ctranslate2":
        ctranslate.check(student.model.config)
    repository = hub.Repository(config.push, config.private) if config.push else None
    step = orbax.pick_step(config.model_dir, config.step)
    checkpoint = open_checkpoint(config.model_dir, step, config.verify_checksums)
    parameters = sum(math.prod(parameter.shape) for parameter in checkpoint.parameters.values())
    facts = gather(config, student, step, parameters)
    lengths = student.lengths
    generation = {"max_new_tokens": lengths["targets"], "do_sample": False, "num_beams": 1}
    is_transformers = config.to == "huggingface"
    with files.new_folder(folder, config.elsewhere) as temporary:
        # CTranslate2's converter quantizes by itself, from whole weights.
        write_transformers(
            temporary,
            checkpoint.parameters,
            checkpoint.model_config(),
            student.vocabulary,
            dtype=config.dtype if is_transformers else "float32",
            shard_bytes=int(config.shard_gb * 10**9),
            inputs_length=lengths["inputs"],
            generation=generation,
        )
        if not is_transformers:
            ctranslate.convert(temporary, student.model.config, config.dtype)
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        (temporary / "README.md").write_text(card(facts, config, sizes), encoding="utf-8")
    address = repository.push(folder) if repository else None
    return Exported(str(folder), step, parameters, len(facts.evaluations), address)
