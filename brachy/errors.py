"""The ways a command can fail, each with its exit code."""

LONGEST_LINE = 1000


class BrachyError(Exception):
    """Could not be done: one line that names the thing, the place and the mend (exit code 1).

    Names and values from files end up in messages, so what is shown is printable, one line and not endless.

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
    """Ended by Ctrl-C, with something to say of what is left (exit code 130)."""

    exit_code = 130


class UsageError(BrachyError):
    """Wrong use: an option or a value that the caller must change (exit code 2)."""

    exit_code = 2
