"""The subcommands of `distill-jax`, a file a group; each registers its own with the decorator `command`.

Everything heavy is imported in the functions that use it: `distill-jax --help` loads all of these files.
"""
