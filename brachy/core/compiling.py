"""How kernels are compiled and kept: `njit` with a cache that goes by the source's text; one process compiles a kernel.

numba's own cache goes by the date of the file that holds a kernel. So it compiles again after every installation, and
it keeps the old machine code of a caller when a callee in another file changes. Here the compiled code lies in a folder
named by a digest of the module's source and of the sources in brachy/core that it imports; numba adds its version, the
processor and the types. A process that compiles a kernel holds a lock on it, and another one that needs it waits and
then loads it, so that nothing is compiled twice. A lock ends with its process, killed or not.
"""

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, Any

import numba
from numba.core import caching, typeinfer

from brachy import core

HERE = Path(__file__).parent
LOCK_RANGE = 2**31 - 1
"""Bytes of the lock file that stand for kernels; none of them is written."""

WAIT_S, POLL_S = 600.0, 0.02
"""Longest wait for another process, and time between two looks (engineering choice)."""

KEPT_VERSIONS = 3
"""Compiled versions of a module that stay on disk: of this source and of the last two others (engineering choice)."""


def _imported(text: str) -> set[str]:
    """Names of the modules of brachy/core that a source text imports, without those that change no kernel."""
    found = set(re.findall(r"^\s*(?:from|import) brachy\.core\.(\w+)", text, re.M))
    for names in re.findall(r"^\s*from brachy\.core import ([\w, ]+)", text, re.M):
        found |= {name.split()[0] for name in names.split(",")}
    return {name for name in found - {"compiling", "threads"} if (HERE / f"{name}.py").is_file()}


@cache
def sources(module: str) -> tuple[str, ...]:
    """The module of brachy/core and those of it that it imports, directly or not; sorted.

    Examples
    --------
    >>> sources("search")
    ('loading', 'search')
    """
    found, new = set(), {module}
    while new:
        found |= new
        new = {name for known in new for name in _imported(_text(known))} - found
    return tuple(sorted(found))


@cache
def _text(module: str) -> str:
    return (HERE / f"{module}.py").read_text("utf-8")


@cache
def digest(module: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a module's source and of those it imports in brachy/core."""
    content = hashlib.sha256()
    for name in sources(module):
        content.update(f"{name}\0{_text(name)}\0".encode())
    return content.hexdigest()[:16]


def folder_of(module: str) -> Path:
    """Folder of the compiled kernels of a module of brachy/core, for its source of today."""
    return Path(numba.config.CACHE_DIR) / f"{module}-{digest(module)}"


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Folder of a module's kernels, and what their freshness goes by."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._module = Path(function.__code__.co_filename).stem
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        """Folder that holds the kernels of this source."""
        return str(folder_of(self._module))

    def get_source_stamp(self) -> str:
        """The digest of the source."""
        return digest(self._module)

    def get_disambiguator(self) -> str:
        """First line of the kernel, for two of one name in a module."""
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], _: str) -> "_Locator":
        """Locator of a kernel."""
        return cls(function)


class _KernelCacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """numba's cache of a kernel, in the folder of its source; of several processes one compiles it."""

    _impl_class = _KernelCacheImpl

    def load_overload(self, signature: Any, target: Any) -> Any:
        """What is in the cache; if nothing, this process now holds the lock on the kernel and has to compile it."""
        found = self._loaded(signature, target)
        if found is None:
            core.note_compilation()
        if found is None and _LOCKS.acquire(self._name_of_lock()):
            found = self._loaded(signature, target)
            if found is not None:
                _LOCKS.release(self._name_of_lock())
        return found

    def _loaded(self, signature: Any, target: Any) -> Any:
        """What is in the cache; None if there is nothing or it is damaged."""
        try:
            return super().load_overload(signature, target)
        except Exception:  # whatever the reader of a damaged file raises: the kernel is compiled again
            with contextlib.suppress(OSError):
                self._cache_file.flush()
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep a compiled kernel and release the lock on it."""
        try:
            with contextlib.suppress(OSError):  # a full disk: compiled for this run only
                super().save_overload(signature, compiled)
        finally:
            _LOCKS.release(self._name_of_lock())

    def _name_of_lock(self) -> str:
        return f"{self.cache_path}/{self._py_func.__qualname__}"


class _Locks:
    """Locks on kernels: one byte each of a file in the cache's folder."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def acquire(self, name: str) -> bool:
        """Wait for a lock; False where files cannot be locked or another process holds it for too long."""
        end = time.monotonic() + WAIT_S
        while True:
            try:
                _lock_byte(self._open(), _byte(name))
                return True
            except (BlockingIOError, PermissionError):  # both mean that another process holds it
                if self._file is None or time.monotonic() > end:
                    return False
            except OSError:
                return False
            time.sleep(POLL_S)

    def release(self, name: str) -> None:
        """Release a lock, if it is held."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                _unlock_byte(self._file, _byte(name))

    def _open(self) -> IO[bytes]:
        """The file; it stays open, because closing it would release every lock of this process."""
        if self._file is None:
            os.makedirs(numba.config.CACHE_DIR, exist_ok=True)
            self._file = open(os.path.join(numba.config.CACHE_DIR, "locks"), "ab")  # noqa: SIM115
        return self._file


try:
    import fcntl
except ImportError:  # without POSIX locks processes that start together may compile the same

    def _lock_byte(file: IO[bytes], place: int) -> None:
        raise OSError("no POSIX locks")

    def _unlock_byte(file: IO[bytes], place: int) -> None:
        pass

else:

    def _lock_byte(file: IO[bytes], place: int) -> None:
        """Lock a byte or raise BlockingIOError or PermissionError at once."""
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)

    def _unlock_byte(file: IO[bytes], place: int) -> None:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, place)


def _byte(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) % LOCK_RANGE


_LOCKS = _Locks()


def njit(signature: Any = None, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba.njit with the cache of this module; with a signature the kernel is compiled, or loaded, at once.

    A kernel whose name begins with an underscore is for other kernels alone: it is compiled without the code by which
    Python calls it, which would take an eighth of the time (with `inline` it keeps that code).

    Parameters
    ----------
    signature : numba signature, optional
        The only one that the kernel is compiled for.
    **options
        Those of `numba.njit`; `cache` is always on.

    Returns
    -------
    callable
        Decorator.
    """
    options.pop("cache", None)

    def decorate(function: Callable[..., Any]) -> Any:
        private = function.__name__.startswith("_") and "inline" not in options
        made = numba.njit(no_cfunc_wrapper=True, no_cpython_wrapper=private, **options)(function)
        if numba.config.DISABLE_JIT:
            return made
        if private:
            _forbid_calls(made)
        made._cache = _KernelCache(function)
        if signature is not None:
            with typeinfer.register_dispatcher(made):
                made.compile(signature)
            made.disable_compile()
        return made

    return decorate


def _forbid_calls(kernel: Any) -> None:
    """Make a call from Python an error: there is no code for it, and the process would end."""

    def refuse(*_: Any, **__: Any) -> None:
        raise TypeError(f"{kernel.py_func.__name__} is for other kernels alone; call its py_func from Python")

    kernel._insert = lambda *_: None
    kernel._compile_for_args = refuse


def remove_old_versions(folder: Path) -> None:
    """Remove compiled kernels of older sources; the newest stay, because another checkout may use them."""
    versions: dict[str, list[Path]] = {}
    for path in folder.glob("*-" + "[0-9a-f]" * 16):
        versions.setdefault(path.name[:-17], []).append(path)
    for module, found in versions.items():
        if (HERE / f"{module}.py").is_file():
            found = [path for path in found if path.name != f"{module}-{digest(module)}"]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in found[KEPT_VERSIONS - 1 :]:
            shutil.rmtree(path, ignore_errors=True)
