"""What a run's folder of somebody else must not do to whoever reads it: run code, or lead out of the folder."""

import os
import pathlib
import stat

from distill_jax.checkpoints import run_dir
from distill_jax.checkpoints.layout import RUN
from distill_jax.config.trust import runs_code
from distill_jax.errors import UserError

ADVICE = "give --trust if you trust whoever made this run"


def load(model_dir: str, trusted: bool) -> run_dir.Run:
    """As `run_dir.load`, of a folder that need not be one's own.

    Raises:
      UserError: where it is no run; unless it is `trusted` also where it names a module whose import would run
        code that is not ours, and see `require_plain`.
    """
    if trusted:
        return run_dir.load(model_dir)
    require_plain(model_dir)
    run = run_dir.load(model_dir)
    for module in filter(None, (run.module, (run.own_data or {}).get("module"))):
        if runs_code(module):
            path = pathlib.Path(model_dir) / RUN
            raise UserError(f"{path}: names the module {module!r}, whose import runs its code: {ADVICE}")
    return run


def require_plain(model_dir: str) -> None:
    """Raises UserError for a link out of a run's folder, a pipe or a device: it would be written to."""
    root = os.path.realpath(model_dir)
    for place, folders, names in os.walk(root):
        for path in (os.path.join(place, name) for name in (*folders, *names)):
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:  # of a checkpoint that its training has just removed
                continue
            if stat.S_ISLNK(mode):
                target = os.path.realpath(path)
                if os.path.commonpath([root, target]) != root:
                    raise UserError(f"{path}: a link out of the run's folder, to {target}: {ADVICE}")
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UserError(f"{path}: neither a file nor a folder: {ADVICE}")
