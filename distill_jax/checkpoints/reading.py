"""A checkpoint of any format: what is found at a path."""

import dataclasses
import pathlib
import re

from distill_jax.checkpoints import orbax as checkpoints
from distill_jax.checkpoints import remote, run_dir
from distill_jax.checkpoints.formats.huggingface import PICKLES, read_huggingface, refuse_pickle
from distill_jax.checkpoints.formats.orbax_trees import is_tree, read_tree
from distill_jax.checkpoints.formats.parameters import Parameters, check, infer_config, unstack
from distill_jax.checkpoints.formats.t5x_legacy import read_legacy
from distill_jax.checkpoints.formats.tokenizer_files import read_tokenizer
from distill_jax.data.vocabularies import Vocabulary, load_vocabulary
from distill_jax.errors import UserError
from distill_jax.models.config import T5Config

CARRIED = "distill_jax"  # folder in an exported checkpoint: the run it comes from, and its vocabulary
FORMATS = ("distill-jax", "t5x", "t5x-orbax", "huggingface")
_EXPECTED = (
    "expected a run of ours (run.json) or one of its checkpoints/<step>, a T5X checkpoint_<step> or the folder "
    "of several, or a Hugging Face folder (config.json and safetensors)"
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been opened, not read.

    Attributes:
      path: as it was given.
      format: of `FORMATS`.
      step: 0 where the format has none.
      parameters: layers apart.
      config: of the model, where something says it.
      run_folder: with `run.json`, where there is one: ours, or the one an export carries.
      folder: local, of this checkpoint.
    """

    path: str
    format: str
    step: int
    parameters: Parameters
    config: T5Config | None
    run_folder: pathlib.Path | None
    folder: pathlib.Path

    def run(self) -> run_dir.Run | None:
        """The run it comes from, if one of ours."""
        return None if self.run_folder is None else run_dir.load(str(self.run_folder))

    def vocabulary(self) -> Vocabulary | None:
        """Its vocabulary, where the checkpoint has one that we can read."""
        if self.run_folder is not None and (self.run_folder / "vocabulary.json").exists():
            return load_vocabulary(self.run_folder)
        return read_tokenizer(self.folder) if self.format == "huggingface" else None

    def model_config(self, mlp_activations: tuple[str, ...] | None = None) -> T5Config:
        """The model: as the format says, or told from the shapes.

        Args:
          mlp_activations: of a T5X checkpoint; default what the `config.gin` of its run says, else the usual.

        Raises:
          UserError: naming a parameter that does not fit with the others.
        """
        if self.config is not None:
            return self.config
        activations = mlp_activations or _gin_activations(self.folder.parent / "config.gin")
        config = infer_config(self.path, self.parameters, activations)
        check(self.path, self.parameters, config, "the T5 that the first layer's parameters describe")
        return config


def _gin_activations(path: pathlib.Path) -> tuple[str, ...] | None:
    """What T5X's `config.gin` binds `T5Config.mlp_activations` to."""
    if not path.exists():
        return None
    bound = re.findall(r"T5Config\.mlp_activations\s*=\s*[(\[]([^)\]]*)[)\]]", path.read_text())
    return tuple(re.findall(r"['\"](\w+)['\"]", bound[-1])) if bound else None


def open_checkpoint(path: str, step: int | str | None = None) -> Checkpoint:
    """Finds out the format of a checkpoint, and opens it; parameters are read later.

    Args:
      path: local, or a URL (`gs://…`, `hf://ORG/NAME`); see `remote`.
      step: which checkpoint of a run; default the latest.

    Raises:
      UserError: when there is none, it is a pickle, or a parameter is missing.
    """
    folder = remote.fetch(path, step) if remote.is_remote(path) else pathlib.Path(path)
    if folder.is_file():
        if folder.suffix in PICKLES:
            refuse_pickle(folder)
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{path}: no such folder: {_EXPECTED}")
    if (folder / "run.json").exists():
        return _open_ours(path, folder, step)
    if folder.name.isdigit() and (folder.parent.parent / "run.json").exists():
        return _open_ours(path, folder.parent.parent, int(folder.name))
    if (folder / "config.json").exists():
        parameters, config = read_huggingface(folder)
        return Checkpoint(path, "huggingface", 0, parameters, config, _carried(folder), folder)
    steps = _t5x_steps(folder)
    if steps:
        if step is not None and step not in steps:
            raise UserError(f"{path}: no checkpoint of step {step}; there are {sorted(steps)}")
        folder = steps[max(steps) if step is None else step]
    return _open_t5x(path, folder)


def _carried(folder: pathlib.Path) -> pathlib.Path | None:
    return folder / CARRIED if (folder / CARRIED / "run.json").exists() else None


def _open_ours(path: str, root: pathlib.Path, step: int | str | None) -> Checkpoint:
    run = run_dir.load(str(root))
    step = checkpoints.pick_step(str(root), step)
    folder = root / "checkpoints" / str(step)
    parameters = unstack(read_tree(folder / "state", "params"))
    config = dataclasses.replace(T5Config(**run.model), scan_layers=False)
    check(path, parameters, config, "run.json")
    return Checkpoint(path, "distill-jax", step, parameters, config, root, folder)


def _t5x_steps(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    found = {re.fullmatch(r"checkpoint_(\d+)", child.name): child for child in folder.iterdir()}
    return {int(match[1]): child for match, child in found.items() if match}


def _open_t5x(path: str, folder: pathlib.Path) -> Checkpoint:
    if folder.name == "state":
        folder = folder.parent
    match = re.fullmatch(r"checkpoint_(\d+)", folder.name)
    step = int(match[1]) if match else 0
    if is_tree(folder / "state") or (folder / "state" / "checkpoint").exists():
        kind, parameters = "t5x-orbax", read_tree(folder / "state", "target")
    elif is_tree(folder):
        kind, parameters = "t5x-orbax", read_tree(folder, "target")
    elif (folder / "checkpoint").is_file():
        kind, parameters = "t5x", read_legacy(folder)
    else:
        pickles = sorted(child for child in folder.iterdir() if child.suffix in PICKLES)
        if pickles:
            refuse_pickle(pickles[0])
        raise UserError(f"{path}: no checkpoint in there: {_EXPECTED}")
    parameters, home = unstack(parameters), _carried(folder.parent)
    config = None
    if home is not None:
        config = dataclasses.replace(T5Config(**run_dir.load(str(home)).model), scan_layers=False)
        check(path, parameters, config, str(home / "run.json"))
    return Checkpoint(path, kind, step, parameters, config, home, folder)
