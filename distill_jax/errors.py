"""The one exception that entry points turn into a single line for the user."""


class UserError(Exception):
    """Bad input: says which file and row, what was expected, and what to do, in one line."""


def words_of(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
