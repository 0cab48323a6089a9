"""Finds out what checkpoint a path holds, and opens it."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from distill_jax import files
from distill_jax.checkpoints import orbax, remote, run_dir
from distill_jax.checkpoints.layout import RUN, STATE, checkpoints_of
from distill_jax.checkpoints.orbax_trees import is_tree, names_in, read_tree
from distill_jax.checkpoints.other_formats.huggingface import read_huggingface
from distill_jax.checkpoints.other_formats.parameters import (
    Parameters,
    check,
    fingerprint,
    infer_config,
    to_tree,
    unstack,
    with_adapters,
)
from distill_jax.checkpoints.other_formats.safetensors_files import ADAPTER, refuse_adapter, refuse_pickles
from distill_jax.checkpoints.other_formats.t5gemma_flax import is_t5gemma, read_t5gemma
from distill_jax.checkpoints.other_formats.t5x_legacy import read_legacy
from distill_jax.checkpoints.other_formats.tokenizer_files import read_tokenizer
from distill_jax.checkpoints.whole import require_whole
from distill_jax.data.vocabularies import Vocabulary, load_vocabulary
from distill_jax.errors import UserError
from distill_jax.models.config import ModelConfig
from distill_jax.models.families import make_config

RUN_OF_EXPORT = "distill_jax"  # folder in an exported checkpoint: the run it comes from, and its vocabulary
FORMATS = ("distill-jax", "t5x", "t5x-orbax", "huggingface")
_EXPECTED = (
    "expected a run of ours (run.json) or one of its checkpoints/<step>, a T5X checkpoint_<step> or the folder "
    "of several, a Hugging Face folder (config.json and safetensors), or a T5Gemma in Flax"
)
# In T5X's scalable_t5 each layer has a position bias of its own, ours and T5X's t5 share the first layer's.
_SCALABLE = re.compile(r"^(encoder|decoder)/(layers_\d+|layers|encoder|decoder)/relpos_bias/")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been opened, not read.

    Attributes:
      path: as it was given.
      format: of `FORMATS`, or `t5gemma-flax`.
      step: 0 where the format has none.
      parameters: one per layer, see `parameters.unstack`.
      config: of the model, where something says it.
      run_folder: with `run.json`, where there is one: ours, or the one an export carries.
      folder: local, of this checkpoint.
    """

    path: str
    format: str
    step: int
    parameters: Parameters
    config: ModelConfig | None
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

    def model_config(self, mlp_activations: tuple[str, ...] | None = None) -> ModelConfig:
        """The model: as the format says, or inferred from the shapes.

        For a T5X checkpoint, the activations are by default those in the `config.gin` of its run, else T5's.
        Raises UserError, naming a parameter that does not fit with the others.
        """
        if self.config is not None:
            return self.config
        activations = mlp_activations or _gin_activations(self.folder.parent / "config.gin")
        config = infer_config(self.path, self.parameters, activations)
        check(self.path, self.parameters, config, "its other parameters")
        return config


def _gin_activations(path: pathlib.Path) -> tuple[str, ...] | None:
    """What T5X's `config.gin` binds `T5Config.mlp_activations` to."""
    if not path.exists():
        return None
    bound = re.findall(r"T5Config\.mlp_activations\s*=\s*[(\[]([^)\]]*)[)\]]", path.read_text())
    return tuple(re.findall(r"['\"](\w+)['\"]", bound[-1])) if bound else None


def open_checkpoint(path: str, step: int | str | None = None, verify: bool = True) -> Checkpoint:
    """Finds out the format of a checkpoint, and opens it; parameters are read later.

    Args:
      path: local, or a URL (`gs://…`, `hf://ORG/NAME`).
      step: which checkpoint of a run, see `orbax.pick_step`; of a T5X folder of several, a number or `latest`.
      verify: compares its files with their checksums, of a run's and in the caches of what is fetched.

    Raises:
      UserError: when there is none, it is a pickle, an adapter or a Git LFS pointer, a parameter is missing, or
        a file is damaged.
    """
    folder = remote.fetch(path, step, verify) if remote.is_remote(path) else pathlib.Path(path)
    if folder.is_file():
        refuse_pickles([folder])
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{path}: no such folder: {_EXPECTED}")
    for child in folder.iterdir():
        if child.is_file():
            files.refuse_lfs_pointer(child)
    if (folder / RUN).exists():
        return _open_ours(path, folder, step, verify)
    if folder.name.isdigit() and (folder.parent.parent / RUN).exists():
        return _open_ours(path, folder.parent.parent, folder.name, verify)
    if (folder / "config.json").exists():
        parameters, config = read_huggingface(folder)
        return Checkpoint(path, "huggingface", 0, parameters, config, _exported_run(folder), folder)
    if (folder / ADAPTER).exists():
        refuse_adapter(folder)
    if is_tree(folder) and is_t5gemma(names_in(folder)):
        parameters, config = read_t5gemma(path, read_tree(folder, None))
        return Checkpoint(path, "t5gemma-flax", 0, parameters, config, None, folder)
    return _open_t5x(path, _pick_t5x_step(path, folder, step))


def _exported_run(folder: pathlib.Path) -> pathlib.Path | None:
    return folder / RUN_OF_EXPORT if (folder / RUN_OF_EXPORT / RUN).exists() else None


def _open_ours(path: str, root: pathlib.Path, step: int | str | None, verify: bool) -> Checkpoint:
    run = run_dir.load(str(root))
    number = orbax.pick_step(str(root), step)
    if verify:
        require_whole(str(root), number)
    folder = checkpoints_of(root) / str(number)
    stored = read_tree(folder / STATE, "params")
    parameters = unstack(stored)
    if (is_stacked := stored.keys() != parameters.keys()) != bool(run.model.get("scan_layers")):
        state = "stacked" if is_stacked else "not stacked"
        raise UserError(
            f"{root / RUN}: model.scan_layers is {not is_stacked}, but the layers of {folder} are {state}"
        )
    if run.lora is not None:
        parameters = _on_base(path, run.lora, parameters, verify)
    config = make_config(run.model | {"scan_layers": False})
    check(path, parameters, config, str(root / RUN))
    return Checkpoint(path, "distill-jax", number, parameters, config, root, folder)


def _on_base(path: str, description: Mapping[str, Any], adapters: Parameters, verify: bool) -> Parameters:
    """The parameters of a run's adapters merged into its base, which is loaded again; refuses another one."""
    where = description["base"]
    try:
        base = open_checkpoint(where, verify=verify).parameters
    except UserError as error:
        raise UserError(
            f"{path}: holds adapters of the model {where}, which cannot be loaded ({error}): put it there "
            f"again, or write where it is now into {RUN}, lora.base"
        ) from None
    found = fingerprint(base)
    if found != description["fingerprint"]:
        raise UserError(
            f"{path}: holds adapters of the model {where} of the fingerprint {description['fingerprint']}, but "
            f"what is there now has {found}: another model, or its weights have changed"
        )
    return with_adapters(base, adapters, description["alpha"] / description["rank"])


def restore_params(model_dir: str, step: int | str | None = "latest", verify: bool = True) -> Any:
    """As `orbax.restore_params`, with a run's adapters merged into their base.

    With `verify` the checkpoint's files are compared with their checksums before.

    Raises UserError also when `run.json` describes another network, or the base cannot be loaded or is another.
    """
    run = run_dir.load(model_dir)
    checkpoint = _open_ours(model_dir, pathlib.Path(model_dir), step, verify)
    if run.lora is None:
        return orbax.restore_params(model_dir, checkpoint.step)
    tree = to_tree(checkpoint.parameters, bool(run.model.get("scan_layers")))
    return jax.tree.map(jnp.asarray, tree)


def _pick_t5x_step(path: str, folder: pathlib.Path, step: int | str | None) -> pathlib.Path:
    """The `checkpoint_<step>` of a folder of several; `folder` itself where it is no such folder."""
    matches = {re.fullmatch(r"checkpoint_(\d+)", child.name): child for child in folder.iterdir()}
    by_step = {int(match[1]): child for match, child in matches.items() if match}
    if not by_step:
        return folder
    if step is None or step == "latest":
        return by_step[max(by_step)]
    return by_step[orbax.numbered(path, by_step, step)]


def _open_t5x(path: str, folder: pathlib.Path) -> Checkpoint:
    if folder.name == STATE:
        folder = folder.parent
    match = re.fullmatch(r"checkpoint_(\d+)", folder.name)
    step = int(match[1]) if match else 0
    if is_tree(folder / STATE) or (folder / STATE / "checkpoint").exists():
        kind, parameters = "t5x-orbax", read_tree(folder / STATE, "target")
    elif is_tree(folder):
        kind, parameters = "t5x-orbax", read_tree(folder, "target")
    elif (folder / "checkpoint").is_file():
        kind, parameters = "t5x", read_legacy(folder)
    else:
        refuse_pickles(folder.iterdir())
        raise UserError(f"{path}: no checkpoint in there: {_EXPECTED}")
    biases = [name for name in parameters if _SCALABLE.match(name)]
    if biases:
        raise UserError(
            f"{path}: a checkpoint of T5X's scalable_t5, with a position bias in each layer ({biases[0]}): not "
            "the architecture of T5; expected one of T5X's examples/t5"
        )
    parameters, run_folder = unstack(parameters), _exported_run(folder.parent)
    config = None
    if run_folder is not None:
        config = make_config(run_dir.load(str(run_folder)).model | {"scan_layers": False})
        check(path, parameters, config, str(run_folder / RUN))
    return Checkpoint(path, kind, step, parameters, config, run_folder, folder)
