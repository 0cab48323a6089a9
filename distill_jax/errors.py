"""How a command ends: the one exception that becomes a single line for the user, and the exit statuses."""

import enum


class UserError(Exception):
    """Bad input: says which file and row, what was expected, and what to do, in one line."""


class Status(enum.IntEnum):
    """An exit status, and what it means; docs/options.md has the table."""

    def __new__(cls, value: int, meaning: str) -> "Status":
        """A status that knows its meaning."""
        status = int.__new__(cls, value)
        status._value_, status.meaning = value, meaning
        return status

    DONE = 0, "what was asked for is done"
    FAILED = (
        1,
        "an error, told in one line; `annotate`: requests without an answer; `plan`: it does not fit; "
        "`sweep`: a cell failed",
    )
    USAGE = 2, "a command or a flag that there is not, or a flag without its value"
    STOPPED = 3, "`annotate`: a budget or a signal stopped the run; the same command resumes it"
    INTERRUPTED = 130, "Ctrl-C"
    CLOSED = 141, "what reads the output has closed it"
    PREEMPTED = 143, "SIGTERM, or Ctrl-C while training: the run has saved, and the same command resumes it"


def words_of(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
