"""numba kernels: floats and arrays in, arrays out; lengths in the units their names say.

Compiled kernels are kept on disk, in NUMBA_CACHE_DIR or else in the user's cache folder, so that they are compiled
once. Where nothing can be kept (a read-only home) they are compiled for this run only. Both are said on stderr.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numba
from numba.core import event


def cache_folder() -> Path:
    """Where compiled kernels are kept if NUMBA_CACHE_DIR does not say: in ~/.cache or XDG_CACHE_HOME.

    Examples
    --------
    >>> cache_folder().name
    'kernels'
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "brachy" / "kernels"


def writable(folder: Path) -> bool:
    """Whether files can be kept in `folder`, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _say(text: str) -> None:
    print(f"brachy: {text}", file=sys.stderr, flush=True)


def _keep_kernels() -> None:
    """Set numba's cache folder, unless the environment does."""
    if numba.config.DISABLE_JIT or numba.config.CACHE_DIR:
        return
    folder = cache_folder()
    if not writable(folder):
        _say(
            f"cannot write {folder}: kernels are compiled for this run only; set NUMBA_CACHE_DIR to keep them"
        )
        folder = Path(tempfile.mkdtemp(prefix="brachy-kernels-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    numba.config.CACHE_DIR = str(folder)


class _Announce(event.Listener):  # type: ignore[misc]
    """Says once that kernels are being compiled, when the first of them is."""

    said = False

    def on_start(self, event: Any) -> None:
        function = getattr(event.data.get("dispatcher"), "py_func", None)
        if not self.said and getattr(function, "__module__", "").startswith("brachy."):
            self.said = True
            _say("compiling kernels, once")

    def on_end(self, event: Any) -> None:
        pass


_keep_kernels()
event.register("numba:compile", _Announce())
