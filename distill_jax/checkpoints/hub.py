"""Repositories of the Hugging Face hub, through its client and into its cache.

The client's own variables hold: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE.
"""

import hashlib
import logging
import pathlib
import queue
import re
import threading
import types
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from distill_jax.checkpoints.other_formats.safetensors_files import ADAPTER, refuse_pickles
from distill_jax.errors import UserError, words_of

T = TypeVar("T")
SECONDS = 4.0  # in which the hub has to say what a repository holds
TOKENIZER_FILES = ["tokenizer*.json", "added_tokens.json", "spiece.model", "tokenizer.model"]
TOKENIZER_FILES += ["config.json", "distill_jax/*"]
_FILES = ["*.safetensors", "*.safetensors.index.json", ADAPTER, *TOKENIZER_FILES]
# The hub's service that converts pickles proposes its result under this name; transformers takes it too.
_CONVERTER, _PROPOSAL = "SFconvertbot", "Adding `safetensors` variant of this model"
log = logging.getLogger("distill_jax")


class NotFetched(UserError):
    """What is not in the cache cannot be had from the hub: no network, no permission, no such thing."""


def fetch(url: str, weights: bool = True, verify: bool = True) -> pathlib.Path:
    """The local folder of `hf://ORG/NAME[@REVISION]`, with its tokenizer alone if not `weights`.

    Without an answer of the hub in `SECONDS` it is the copy in the cache, if that is whole. A repository that
    has only pickles is read from the hub's own conversion of them to safetensors. With `verify` the weights are
    compared with the SHA-256 that the hub keeps of large files, which is their name in its cache.

    Raises:
      UserError: when the URL is none, there are no safetensors, or they are damaged.
      NotFetched: when it cannot be fetched, and is not in the cache.
    """
    folder = _fetch(url, weights)
    for path in sorted(folder.glob("*.safetensors")) if weights and verify else ():
        file = path.resolve()
        if re.fullmatch("[0-9a-f]{64}", file.name) and _sha256(file) != file.name:
            raise UserError(f"{path}: damaged, its SHA-256 is another: delete {file}: it is fetched anew")
    return folder


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url: str, weights: bool) -> pathlib.Path:
    match = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@(.+?))?/?", url)
    if not match:
        raise UserError(f"{url}: expected hf://ORG/NAME or hf://ORG/NAME@REVISION")
    huggingface_hub = client(url)
    repository, revision = match.groups()
    api, patterns = huggingface_hub.HfApi(), _FILES if weights else TOKENIZER_FILES
    ask = {"revision": revision, "timeout": SECONDS}
    try:
        info = within(SECONDS, lambda: api.model_info(repository, **ask))
        names = [file.rfilename for file in info.siblings or ()]
        if weights and not any(name.endswith(".safetensors") for name in names):
            revision = _converted(api, url, repository, names) if revision is None else _refuse(url, names)
        return _download(repository, revision, patterns)
    except UserError:
        raise
    except Exception as error:  # the client raises those of its HTTP library too
        reason = _reason(url, repository, revision, api.endpoint, error)
        folder = _cached(repository, revision, patterns, weights)
        if folder is None:
            raise NotFetched(reason) from None
        if not isinstance(error, huggingface_hub.errors.OfflineModeIsEnabled):
            log.warning("warning: %s: the copy in the cache is used", reason)
        return folder


def client(what: str) -> types.ModuleType:
    """The hub's client, imported only by those who use it. Raises UserError, which names `what`, without it."""
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(f"{what}: needs the hub's client: pip install huggingface_hub") from None
    return huggingface_hub


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that an error, or what it was raised from, is of; None where the hub gave no answer."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return response.status_code
        error = error.__cause__ or error.__context__
    return None


def within(seconds: float, function: Callable[[], T]) -> T:
    """The result of `function`; TimeoutError after so many seconds, also where it waits for a name server."""
    results: queue.Queue[tuple[bool, Any]] = queue.Queue()

    def run() -> None:
        try:
            results.put((True, function()))
        except BaseException as error:
            results.put((False, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        done, result = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds:g} s") from None
    if not done:
        raise result
    return result


def _download(repository: str, revision: str | None, patterns: Sequence[str], **more: bool) -> pathlib.Path:
    import huggingface_hub

    options = {"revision": revision, "allow_patterns": list(patterns), "etag_timeout": SECONDS, **more}
    return pathlib.Path(huggingface_hub.snapshot_download(repository, **options))


def _converted(api: Any, url: str, repository: str, names: Collection[str]) -> str:
    """The revision of the hub's own conversion to safetensors."""
    proposals = api.get_repo_discussions(
        repository, author=_CONVERTER, discussion_type="pull_request", discussion_status="open"
    )
    for each in proposals:
        if each.author == _CONVERTER and each.title == _PROPOSAL and each.git_reference:
            log.warning(
                "%s: has only pickles; the hub's conversion of them is taken: %s", url, each.git_reference
            )
            return each.git_reference
    _refuse(url, names)


def _refuse(url: str, names: Collection[str]):
    refuse_pickles(f"{url.removeprefix('hf://')}/{name}" for name in names)
    raise UserError(f"{url}: no safetensors in there, only {', '.join(names) or 'nothing'}")


def _cached(
    repository: str, revision: str | None, patterns: Sequence[str], weights: bool
) -> pathlib.Path | None:
    """The whole copy in the cache, of the conversion too; None where there is none."""
    import huggingface_hub
    from huggingface_hub import constants

    try:  # the client's default would be the folder of the moment in which it was imported
        repositories = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).repos
    except huggingface_hub.errors.CacheNotFound:
        return None
    refs = [ref for each in repositories if each.repo_id == repository for ref in each.refs]
    conversions = [ref for ref in refs if ref.startswith("refs/pr/")] if revision is None else []
    for reference in (revision, *conversions):
        try:
            folder = _download(repository, reference, patterns, local_files_only=True)
        except huggingface_hub.errors.LocalEntryNotFoundError:  # an incomplete one is one of them
            continue
        if any(folder.glob("*.safetensors")) or not weights:
            return folder
    return None


def _reason(url: str, repository: str, revision: str | None, endpoint: str, error: Exception) -> str:
    """Why a repository was not fetched, on one line."""
    from huggingface_hub import constants, errors

    status = status_of(error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{url}: not whole in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to fetch it"
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        return (
            f"{url}: {endpoint} denies it ({status}): accept the model's licence at {endpoint}/{repository}, "
            "and log in with `hf auth login` or the variable HF_TOKEN; or there is no such public repository"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{url}: {endpoint} has no revision {revision!r} of it"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{url}: {endpoint} has no such repository"
    return f"{url}: cannot be fetched from {endpoint}: {words_of(error):.200}"
