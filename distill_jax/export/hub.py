"""Puts a folder into a repository of the Hugging Face hub."""

import pathlib

from distill_jax.checkpoints.hub import client, status_of
from distill_jax.errors import UserError, words_of


class Repository:
    """A repository of models, `ORG/NAME`, made when it is pushed to; `private` is of one that is made then.

    Raises:
      UserError: without the hub's client, or a token: before anything is exported.
    """

    def __init__(self, name: str, private: bool):
        huggingface_hub = client(f"--push {name}")
        if huggingface_hub.get_token() is None:
            raise UserError(f"--push {name}: no token of the hub: run hf auth login, or set HF_TOKEN")
        self._name, self._private = name, private
        self._hub = huggingface_hub

    def push(self, folder: pathlib.Path) -> str:
        """Puts all files of a folder into the repository as one commit; the commit's address.

        Raises:
          UserError: when the hub refuses or cannot be reached; says what is in the repository then.
        """
        api, again = self._hub.HfApi(), f"{folder} stays: hf upload {self._name} {folder} tries again"
        existed = self._run(f"{again}; nothing was pushed", lambda: api.repo_exists(self._name))
        if not existed:
            make = {"private": self._private, "exist_ok": True}
            self._run(f"{again}; nothing was pushed", lambda: api.create_repo(self._name, **make))
        left = "the repository is as it was" if existed else "the repository was made and is empty"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        add = self._hub.CommitOperationAdd
        # One commit, unlike `upload_folder`, which may make several: nobody sees a model without its tokenizer.
        operations = [add(path.relative_to(folder).as_posix(), str(path)) for path in files]
        commit = self._run(
            f"{again}; {left}",
            lambda: api.create_commit(self._name, operations, commit_message="Add the exported student"),
        )
        return commit.commit_url

    def _run(self, after: str, call):
        try:
            return call()
        except Exception as error:  # the client's own, its HTTP library's, and OSError
            status = status_of(error)
            why = {401: "the token is not valid (401)", 403: "the token may not write there (403)"}.get(status)
            if why is None and status is None:
                why = f"the hub cannot be reached ({words_of(error):.200})"
            raise UserError(f"--push {self._name}: {why or f'{words_of(error):.200}'}: {after}") from error
