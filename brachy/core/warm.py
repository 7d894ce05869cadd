"""Compile kernels ahead, in processes of their own: `python -m brachy.core.warm VERB`, `brachy warmup`, and every verb.

A process is given one unit after another (`brachy.core.kernel_list`). The verb goes on reading its case meanwhile; what
it needs before it is compiled, it waits for or compiles itself (`brachy.core.compiling`).
"""

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import llvmlite
import numba
from llvmlite import binding

from brachy import core
from brachy.core import compiling, kernel_list

MOST_PROCESSES = 4
"""More would wait for each other: half of the time is the largest units' (engineering choice)."""

WORKER = "--worker"


def cores() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _mark(verb: str) -> Path:
    """File that says that all kernels of a verb are in the cache, for these sources, versions and this processor."""
    parts = [verb, numba.__version__, llvmlite.__version__, platform.python_version()]
    parts += [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    parts += [compiling.digest(module) for module in kernel_list.modules_of(verb)]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return Path(numba.config.CACHE_DIR) / f"ready-{verb}-{name}"


def is_ready(verb: str) -> bool:
    """Whether all kernels of a verb were compiled before, by this version on this kind of processor."""
    if numba.config.DISABLE_JIT:
        return True
    folders = [compiling.folder_of(module) for module in kernel_list.modules_of(verb)]
    return _mark(verb).is_file() and all(folder.is_dir() for folder in folders)


class Compilation:
    """The kernels of a verb being compiled in processes of their own.

    Parameters
    ----------
    verb : str
        "plan", "verify", ...: `kernel_list.VERBS`.
    processes : int, optional
        Of them; as many as processors, at most `MOST_PROCESSES`, by default.
    changed : callable, optional
        Called with the names of what is left, from a thread of its own, when a unit is compiled.
    """

    def __init__(
        self,
        verb: str,
        processes: int | None = None,
        changed: Callable[[tuple[str, ...]], None] | None = None,
    ) -> None:
        self.verb = verb
        self._changed = changed or (lambda _: None)
        self._waiting = deque(kernel_list.units_of(verb))
        self._left = [unit.name for unit in self._waiting]
        self._lock = threading.Lock()
        self._children: list[subprocess.Popen[str]] = []
        count = min(processes or min(cores(), MOST_PROCESSES), len(self._waiting))
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(count)]

    @property
    def left(self) -> tuple[str, ...]:
        """Names of what is not compiled yet."""
        return tuple(self._left)

    def start(self) -> None:
        """Start the processes; returns at once."""
        for thread in self._threads:
            thread.start()

    def wait(self) -> bool:
        """Wait until all is compiled; False if a process failed."""
        for thread in self._threads:
            thread.join()
        return not self._left

    def stop(self) -> None:
        """End the processes; what they were compiling is lost."""
        with self._lock:
            self._waiting.clear()
            for child in self._children:
                child.kill()

    def _serve(self) -> None:
        """Give one process a unit after another until none is left."""
        with self._lock:
            if not self._waiting:
                return
            child = _started()
            self._children.append(child)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            while True:
                with self._lock:
                    if not self._waiting:
                        break
                    unit = self._waiting.popleft()
                child.stdin.write(f"{unit.name}\n")
                child.stdin.flush()
                if child.stdout.readline().strip() != unit.name:
                    return  # it failed or was ended: whoever needs the kernel compiles it
                self._finished(unit.name)
        except (OSError, ValueError):
            return
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()

    def _finished(self, name: str) -> None:
        with self._lock:
            self._left.remove(name)
            complete = not self._left
        if complete:
            _leave_mark(self.verb)
        self._changed(self.left)


def _leave_mark(verb: str) -> None:
    """Note that a verb's kernels are compiled, and remove those of older sources."""
    with contextlib.suppress(OSError):  # a full disk: it will be looked at again
        _mark(verb).touch()
        compiling.remove_old_versions(Path(numba.config.CACHE_DIR))


def _started() -> "subprocess.Popen[str]":
    """A process that compiles what it is told; it ends when this one does, because its input does."""
    root = str(Path(core.__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"NUMBA_CACHE_DIR": str(numba.config.CACHE_DIR), "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-m", "brachy.core.warm", WORKER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip


def _work() -> None:
    """Compile the units whose names come on stdin, and print each name when it is done."""
    names: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            names.put(line.strip())
        os._exit(0)  # the parent ended: what is being compiled is no longer wanted

    threading.Thread(target=read, daemon=True).start()
    while True:
        name = names.get()
        kernel_list.compile_unit(name)
        print(name, flush=True)


def compile_ahead(verb: str, say: Callable[[str], None]) -> bool:
    """Compile what a verb needs, with a line for each unit; False if a process failed."""
    if is_ready(verb):
        return True
    compilation = Compilation(verb, changed=lambda left: say(f"left: {', '.join(left) or 'nothing'}"))
    say(f"compiling kernels, once: {', '.join(compilation.left)}")
    compilation.start()
    try:
        return compilation.wait()
    finally:
        compilation.stop()


if __name__ == "__main__":
    if sys.argv[1:] == [WORKER]:
        _work()
    sys.exit(0 if compile_ahead(sys.argv[1], lambda text: print(f"brachy: {text}", file=sys.stderr)) else 1)
