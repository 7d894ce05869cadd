"""The two ways a command can fail, each with its exit code."""


class BrachyError(Exception):
    """Could not be done: one line that names the thing, the place and the mend (exit code 1)."""

    exit_code = 1


class UsageError(BrachyError):
    """Wrong use: an option or a value that the caller must change (exit code 2)."""

    exit_code = 2
