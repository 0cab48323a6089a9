"""The one exception that entry points turn into a single line for the user."""


class UserError(Exception):
    """Bad input: says which file and row, what was expected, and what to do, in one line."""
