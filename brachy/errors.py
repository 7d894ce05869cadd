"""Exceptions of the package, each with the exit code of the command that it ends."""

LONGEST_LINE = 1000
"""Longest message shown, in characters (engineering choice)."""


class BrachyError(Exception):
    """The task could not be done; the message is one line with what is wrong, where, and the remedy (exit code 1).

    Messages contain names and values from files, so `str` makes them printable, one line, and of limited length.

    Examples
    --------
    >>> str(BrachyError("structure 'GTV\\x1b[2J' is empty:\\ndraw it"))
    "structure 'GTV [2J' is empty: draw it"
    """

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__()
        line = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * LONGEST_LINE]).split())
        return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."


class Interrupted(BrachyError):
    """Ended by Ctrl-C; the message tells which files were written before (exit code 130)."""

    exit_code = 130


class UsageError(BrachyError):
    """Wrong use: the caller must change an option or a value (exit code 2)."""

    exit_code = 2
