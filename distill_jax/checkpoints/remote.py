"""Checkpoints at a URL: the files that are needed of them, copied into the cache once per version.

`hf://ORG/NAME[@REVISION]` comes from the Hugging Face hub, see `hub`; any other URL (`gs://`, `s3://`, …)
through fsspec and the package it names for the protocol.
"""

import hashlib
import json
import pathlib
import posixpath
import re

from distill_jax import checksums
from distill_jax.checkpoints import hub, orbax
from distill_jax.checkpoints.layout import CHECKPOINTS
from distill_jax.checkpoints.other_formats.safetensors_files import refuse_pickles
from distill_jax.data import cache
from distill_jax.errors import UserError

_STEP = re.compile(r"^(?:checkpoint_|checkpoints/)(\d+)/")
# The optimizer's state, T5X's data pipeline, TensorBoard's files, other frameworks' weights.
_UNNEEDED = re.compile(
    r"(^|/)(state\.[^/]+/|dataset/|train_ds-|eval/|events\.|[^/]*\.(h5|msgpack|onnx|bin|pt|pth|ckpt)$)"
)


def is_remote(path: str) -> bool:
    """Whether `path` is a URL."""
    return "://" in path


def fetch(url: str, step: int | str | None = None, verify: bool = True) -> pathlib.Path:
    """A local folder with the checkpoint at `url`, without its optimizer's state.

    `step` says which of several: a number, `best` by the scores of a run, or `latest`, the default. With
    `verify` what was fetched before is compared with its checksums. Raises UserError when it cannot be fetched,
    or is damaged and cannot be fetched anew.
    """
    if url.startswith("hf://"):
        return hub.fetch(url, verify=verify)
    return _fetch_fsspec(url.rstrip("/"), step, verify)


def _steps(names: list[str]) -> set[int]:
    return {int(m[1]) for m in map(_STEP.match, names) if m}


def _wanted(names: list[str], step: int | None) -> list[str]:
    """The files of one checkpoint, by default the latest, and those beside it."""
    chosen = max(_steps(names), default=None) if step is None else step
    kept = [name for name in names if not (m := _STEP.match(name)) or int(m[1]) == chosen]
    return [name for name in kept if not _UNNEEDED.search(name)]


def _fetch_fsspec(url: str, step: int | str | None, verify: bool) -> pathlib.Path:
    import fsspec

    ours = re.fullmatch(r"(.+)/checkpoints/(\d+)", url)
    if ours:  # what it is stands in the run's folder
        return _fetch_fsspec(ours[1], int(ours[2]), verify) / CHECKPOINTS / ours[2]
    with cache.fetching(url):
        filesystem, root = fsspec.url_to_fs(url)
        root = root.rstrip("/")
        filesystem.invalidate_cache()  # a listing of before would hide what was written since
        infos = filesystem.find(root, detail=True)
        # T5X's configuration, and the run that an export of ours carries, are beside the checkpoint.
        parent = posixpath.dirname(root)
        beside = filesystem.find(f"{parent}/distill_jax", detail=True) if parent else {}
        if parent and filesystem.exists(f"{parent}/config.gin"):
            beside[f"{parent}/config.gin"] = filesystem.info(f"{parent}/config.gin")
    names = sorted(posixpath.relpath(path, root) for path in infos)
    if not names:
        raise UserError(f"{url}: there is nothing there")
    wanted = [f"{root}/{name}" for name in _wanted(names, _number(filesystem, url, root, names, step))]
    if "config.json" in names and not any(path.endswith(".safetensors") for path in wanted):
        refuse_pickles(f"{url}/{name}" for name in names)
    wanted += beside
    # The versions belong to the key: a run's folder grows, and weights are overwritten in place.
    versions = [(path, cache.version_of(filesystem, path, (infos | beside)[path])) for path in wanted]
    key = hashlib.sha256(json.dumps([url, versions]).encode()).hexdigest()[:16]

    def download(temporary: pathlib.Path) -> None:
        for path in wanted:
            target = temporary / posixpath.relpath(path, parent or "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            with cache.fetching(url):
                filesystem.get_file(path, str(target))
        for listed in temporary.rglob(checksums.NAME) if verify else ():
            if faults := checksums.damaged(listed.parent):
                place = (listed.parent / faults[0]).relative_to(temporary)
                raise UserError(f"{url}: {place}: damaged there, or on the way: choose another with --step")

    folder = cache.made(cache.cache_dir() / "downloads" / key, download, verify)
    return folder / posixpath.basename(root)  # T5X's step is in the folder's name


def _number(filesystem, url: str, root: str, names: list[str], step: int | str | None) -> int | None:
    """The number of a step; None for the latest, and where there are no steps."""
    steps = _steps(names)
    if step is None or step == "latest" or not steps:
        return None
    if step == "best":
        content = filesystem.cat_file(f"{root}/{orbax.SCORES}") if orbax.SCORES in names else b""
        best = orbax.Scores.from_json(content, f"{url}/{orbax.SCORES}").best(steps) if content else []
        if not best:
            raise UserError(f"{url}: no checkpoint has a validation score, so that none is the best")
        return best[-1]
    return orbax.numbered(url, steps, step)
