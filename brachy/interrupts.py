"""Ctrl-C ends the program within a second, even while the main thread is inside compiled code of a library.

Python raises KeyboardInterrupt in the main thread only when that returns to the interpreter; then unfinished files are
removed and the program ends. Where this takes longer than `GRACE_S`, a second thread, which the signal wakes directly,
removes the unfinished files and ends the process.
"""

import atexit
import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

EXIT_CODE = 130
"""Exit code of a program ended by Ctrl-C: 128 + SIGINT, as in shells."""

GRACE_S = 0.5
"""Time for an orderly end (engineering choice: half of the promised second)."""

BUILDING: list[Path] = []
"""Temporary folders of results that this process is writing."""
WRITTEN: list[Path] = []
"""Result folders that this process has completed."""

_grace = [GRACE_S]


def set_grace(seconds: float) -> None:
    """Allow an orderly end this many seconds: `brachy cohort` stops its workers and writes its table first."""
    _grace[0] = seconds


@contextmanager
def watched() -> Iterator[None]:
    """Watch for Ctrl-C while the block runs; does nothing outside the main thread, where Python has no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading,), name="brachy-interrupts", daemon=True).start()
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_unless_interrupted, hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.set_wakeup_fd(before)
        os.close(writing)


def _unless_interrupted(hook: Callable[[Any], object], unraisable: Any) -> None:
    """Report an error in a destructor, but not of what Ctrl-C cut off: a file that an import had open, say.

    The thread that notes the interruption may need a moment more than the main thread.
    """
    if not _was_interrupted.wait(0.1):
        hook(unraisable)


def _wait(reading: int) -> None:
    """Wait in a thread for the byte of SIGINT; end the process if the main thread does not within the grace time."""
    byte = b" "
    while byte and byte != bytes([signal.SIGINT]):
        byte = os.read(reading, 1)
    os.close(reading)
    if not byte:  # the watched block has ended: the pipe was closed
        return
    _was_interrupted.set()
    if _has_ended.wait(_grace[0]):
        threading.Event().wait(0.3)  # the interpreter may still wait for threads that are inside a kernel
    else:
        text = message()  # before anything is removed
        for folder in tuple(BUILDING):
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.write(2, f"brachy: {text}\n".encode())
    os._exit(EXIT_CODE)


_was_interrupted, _has_ended = threading.Event(), threading.Event()


def interrupted() -> bool:
    """Whether Ctrl-C was pressed, even if a library has caught the KeyboardInterrupt."""
    return _was_interrupted.is_set()


def caused_by_interrupt(error: BaseException) -> bool:
    """Whether an error was caused by Ctrl-C.

    During a compiled function KeyboardInterrupt may become SystemError, during an import ImportError.
    """
    if interrupted():
        return True
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def orderly_end() -> None:
    """Tell the watching thread that the orderly end is done and the process ends by itself."""
    _has_ended.set()


def end_process() -> NoReturn:
    """End the process after an interruption, without the normal shutdown of the interpreter.

    That shutdown was seen to abort now and then while threads were inside compiled code ("the GIL is released").
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a pipe that nobody reads any more
            stream.flush()
    atexit._run_exitfuncs()  # temporary folders
    os._exit(EXIT_CODE)


def message() -> str:
    """One line for the user: interrupted, and whether a result was written before."""
    return f"interrupted; {WRITTEN[-1]} was written before" if WRITTEN else "interrupted; nothing was written"
