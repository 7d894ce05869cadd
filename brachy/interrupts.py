"""Ctrl-C ends the program within a second, also where the main thread is inside a library that does not look up.

Python raises KeyboardInterrupt in the main thread once that is back in the interpreter, and everything half-written is
removed on the way out. Where that takes longer than `GRACE_S`, a thread that is woken by the signal itself removes it
and ends the process.
"""

import atexit
import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

EXIT_CODE = 130
"""Of a program that Ctrl-C ended: 128 + SIGINT, as in shells."""

GRACE_S = 0.5
"""Time for an orderly end (engineering choice: half of the second that is promised)."""

BUILDING: list[Path] = []
WRITTEN: list[Path] = []
"""Folders that this process is building, and those it has put in place."""

_grace = [GRACE_S]


def patience(seconds: float) -> None:
    """Let an orderly end take longer: `brachy cohort` ends its workers and writes its table."""
    _grace[0] = seconds


@contextmanager
def watched() -> Iterator[None]:
    """Watch for Ctrl-C while the block runs; does nothing where signals cannot be watched."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading,), name="brachy-interrupts", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def _wait(reading: int) -> None:
    byte = b" "
    while byte and byte != bytes([signal.SIGINT]):
        byte = os.read(reading, 1)
    os.close(reading)
    if not byte:  # the block has ended
        return
    _asked.set()
    if _ended.wait(_grace[0]):
        threading.Event().wait(0.3)  # the interpreter may still wait for threads that are inside a kernel
    else:
        told = message()  # before anything is removed
        for folder in tuple(BUILDING):
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.write(2, f"brachy: {told}\n".encode())
    os._exit(EXIT_CODE)


_asked, _ended = threading.Event(), threading.Event()


def asked() -> bool:
    """Whether Ctrl-C was pressed, also where a library has swallowed the KeyboardInterrupt."""
    return _asked.is_set()


def behind(error: BaseException) -> bool:
    """Whether Ctrl-C is what an error comes from.

    A compiled function may turn KeyboardInterrupt into SystemError, a module that is being imported into ImportError.
    """
    if asked():
        return True
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def ended() -> None:
    """The orderly end is done: the process leaves by itself."""
    _ended.set()


def leave() -> NoReturn:
    """End the process after an interruption, without what the interpreter would still do.

    Its own end while threads are inside compiled code was seen to abort now and then ("the GIL is released").
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a pipe that nobody reads any more
            stream.flush()
    atexit._run_exitfuncs()  # temporary folders
    os._exit(EXIT_CODE)


def message() -> str:
    """What is left behind, in words."""
    return f"interrupted; {WRITTEN[-1]} was written before" if WRITTEN else "interrupted; nothing was written"
