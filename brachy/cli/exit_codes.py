"""How the program ends: exit codes, and each error as one line on stderr."""

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer import Abort, Exit

from brachy import interrupts
from brachy.errors import BrachyError, Interrupted
from brachy.messages import plainly

# typer may carry its own copy of click, so the base of its errors is taken from typer itself
_CommandLineError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

_REMEDIES = {
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EACCES: "allow it, or choose another place",
    errno.EPERM: "allow it, or choose another place",
    errno.EROFS: "choose another place",
    errno.ENOSPC: "make room; nothing half-written was left",
    errno.EDQUOT: "make room; nothing half-written was left",
    errno.EIO: "the disk or network drive fails: copy the files elsewhere",
    errno.ELOOP: "a link leads to itself: remove it",
    errno.ENOTDIR: "a part of the path is a file",
}
"""Remedy for an error that the system reports of a file or disk."""


def run(program: Callable[..., Any]) -> None:
    """Call a typer program and leave with its exit code.

    Parameters
    ----------
    program : callable
        Called with `standalone_mode=False`, so that it raises instead of leaving.
    """
    try:
        code = _called(program)
    except BrachyError as error:
        _fail(str(error), error.exit_code)
    except Exit as leave:
        if leave.exit_code == interrupts.EXIT_CODE:  # typer's answer to Ctrl-C
            _fail(interrupts.message(), interrupts.EXIT_CODE)
        sys.exit(leave.exit_code)
    except _CommandLineError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(2)
        _fail(f"{plainly(error.format_message())} (see brachy --help)", 2)
    except (KeyboardInterrupt, Abort):
        _fail(interrupts.message(), interrupts.EXIT_CODE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail("out of memory: crop the CT or use a coarser grid", 1)
    except Exception as error:
        if os.environ.get("BRACHY_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno in _REMEDIES:
            _fail(f"{_shortened(error.filename)}: {error.strerror}; {_REMEDIES[error.errno]}", 1)
        _fail(
            f"internal error, please report it: {type(error).__name__}: {error} (BRACHY_DEBUG=1 shows where)",
            1,
        )
    if code == interrupts.EXIT_CODE:  # typer's answer to Ctrl-C, as a value
        _fail(interrupts.message(), interrupts.EXIT_CODE)
    sys.exit(code if isinstance(code, int) else 0)


def _called(program: Callable[..., Any]) -> Any:
    """The program's result; an error that Ctrl-C caused inside a library is raised as KeyboardInterrupt."""
    try:
        return program(standalone_mode=False)
    except Interrupted:
        raise
    except Exception as error:
        if interrupts.caused_by_interrupt(error):
            raise KeyboardInterrupt from error
        raise


def _shortened(name: object) -> str:
    """A file name of at most about 100 characters."""
    text = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else "a file"
    return text if len(text) <= 120 else f"{text[:100]}..."


def _fail(message: str, code: int) -> None:
    """Print one line and leave."""
    interrupts.orderly_end()
    print("brachy: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)
