"""Seconds to compile the kernels of each verb with an empty cache, by one process and by as many as a verb starts.

Run as `python benchmarks/compiling.py [VERB...]`. By the clock: on an idle machine.
"""

import sys
import tempfile
import time

import numba

from brachy.core import kernel_list, warm


def seconds(verb: str, processes: int | None) -> float:
    """Wall-clock time of compiling a verb's kernels into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        numba.config.CACHE_DIR = folder
        compilation = warm.Compilation(verb, processes)
        start = time.perf_counter()
        compilation.start()
        assert compilation.wait()
        return time.perf_counter() - start


def main() -> None:
    print("| kernels of | one process, s | side by side, s |\n| --- | --- | --- |")
    for verb in sys.argv[1:] or kernel_list.VERBS:
        print(f"| `{verb}` | {seconds(verb, 1):.0f} | {seconds(verb, None):.0f} |", flush=True)


if __name__ == "__main__":
    main()
