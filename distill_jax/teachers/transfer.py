"""The commands `store import` and `store export`: completions into a store and out of it, without a teacher."""

import pathlib

from distill_jax.errors import UserError
from distill_jax.teachers import export, parsing, prompts, reference_layout
from distill_jax.teachers.settings import rows_of
from distill_jax.teachers.store import Store


def import_files(config) -> tuple[int, int]:
    """Reads the files of the paper's release into a store; (completions added, completions it had).

    Args:
      config: the options of `distill-jax store import`.

    Raises:
      UserError: for an unknown parser, and see `reference_layout.import_completions`.
    """
    rows = rows_of(config)
    parser = config.parser or prompts.load_template(rows.prompt).answers_by(structured=False)
    try:
        parsing.parser(parser)
    except ValueError as error:
        raise UserError(f"--parser: {error}") from None
    with Store(config.store) as store:
        return reference_layout.import_completions(rows, store, config.model, parser)


def export_rows(config) -> export.Delivery | list[pathlib.Path]:
    """Writes a store's completions as rows to train on, or with `layout` "reference" as the paper's files.

    Args:
      config: the options of `distill-jax store export`.

    Returns:
      The delivery of rows, or the written files.

    Raises:
      UserError: when a row has completions of several settings, or a file cannot be written.
    """
    rows = rows_of(config)
    with Store(config.store, readonly=True) as store:
        completions = export.only_setting(store, config.model, config.template)
        if config.layout == "reference":
            return reference_layout.export_completions(
                rows, rows.examples(), completions, config.output, config.chunk_size
            )
        template = prompts.load_template(config.prompt or rows.prompt)
        settings = {
            "rows": f"{config.source}, split {config.split}",
            "store": config.store,
            "model": config.model,
        }
        return export.deliver(config, rows, rows.examples(), completions, template, settings)
