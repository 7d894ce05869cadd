"""numba kernels: floats and arrays in, arrays out; the name of a length carries its unit.

Compiled kernels are cached on disk, in NUMBA_CACHE_DIR or else in the user's cache folder, so that they are compiled
once. Where no file can be written (a read-only home) they are compiled for this run only. A line on stderr tells when
kernels are compiled and when they cannot be cached.
"""

import atexit
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numba
from numba.core import event

from brachy import caches


def cache_folder() -> Path:
    """Folder of the compiled kernels where NUMBA_CACHE_DIR is not set: in XDG_CACHE_HOME, else in ~/.cache.

    Examples
    --------
    >>> cache_folder().name
    'kernels'
    """
    return caches.folder("kernels")


def _print_note(text: str) -> None:
    print(f"brachy: {text}", file=sys.stderr, flush=True)


def _set_cache_folder() -> None:
    """Set numba's cache folder, unless the environment sets it."""
    if numba.config.DISABLE_JIT or numba.config.CACHE_DIR:
        return
    folder = cache_folder()
    if not caches.writable(folder):
        _print_note(
            f"cannot write {folder}: kernels are compiled for this run only; set NUMBA_CACHE_DIR to keep them"
        )
        folder = Path(tempfile.mkdtemp(prefix="brachy-kernels-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    numba.config.CACHE_DIR = str(folder)


_noted = False


def note_compilation() -> None:
    """Print one line, when the first kernel of this process is compiled by it or by another one that it waits for."""
    global _noted
    if not _noted:
        _noted = True
        _print_note("compiling kernels, once")


class _CompilationNote(event.Listener):  # type: ignore[misc]
    """Notes that kernels are compiled."""

    def on_start(self, event: Any) -> None:
        function = getattr(event.data.get("dispatcher"), "py_func", None)
        if getattr(function, "__module__", "").startswith("brachy."):
            note_compilation()

    def on_end(self, event: Any) -> None:
        pass


_set_cache_folder()
event.register("numba:compile", _CompilationNote())
