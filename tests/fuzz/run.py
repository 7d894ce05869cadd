"""`make fuzz`: mutated inputs for every reader, in processes with 2 GB and 10 s an input; failures by their numbers.

`python -m tests.fuzz.run --count 20000 [--target CT] [--one 1234] [--jobs 2] [--out FILE]`
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import signal
import tempfile
import time
import traceback
from pathlib import Path

MEMORY_BYTES = 2_000_000_000
SECONDS = 10


class Hang(BaseException):
    """An input that took more than `SECONDS`; no reader can mistake it for an error of its own."""


def _ring(*_):
    raise Hang


def work(name, first, last, at, pipe, folder):
    """Inputs `first` to `last` of a target; `at` tells the parent where it is."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # what the libraries print; tests/fuzz/test_fuzz.py watches that elsewhere
    signal.signal(signal.SIGALRM, _ring)
    from tests.fuzz.targets import TARGETS, outcome

    target = TARGETS[name]
    target.prepare(Path(folder))
    for file, content in target.originals():  # kernels are compiled before the clock runs
        (Path(folder) / file).write_bytes(content)
        target.read(Path(folder) / file)
    counts, slowest, failures = {"result": 0, "refused": 0}, 0.0, []
    for number in range(first, last):
        at.value = number
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            counts[outcome(target, number, folder)] += 1
        except BaseException as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if isinstance(error, KeyboardInterrupt):
                raise
            where = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in where if "/brachy/" in frame.filename] or where
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            failures.append([number, f"{type(error).__name__}: {str(error)[:160]}", place])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, time.monotonic() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    pipe.send({"counts": counts, "slowest_s": slowest, "failures": failures, "peak_MB": peak})


def run(name, count, first=0):
    """All inputs of a target, started again after an input that ended or stopped its process."""
    context = multiprocessing.get_context("spawn")
    total = {"tried": count, "result": 0, "refused": 0, "slowest_s": 0.0, "peak_MB": 0.0, "failures": []}
    piece, last = 2000, first + count
    while first < last:
        stop = min(first + piece, last)
        at = context.Value("q", -1, lock=False)
        ours, theirs = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory() as folder:
            process = context.Process(target=work, args=(name, first, stop, at, theirs, folder))
            process.start()
            theirs.close()
            seen, since, fate = -1, time.monotonic(), "ended its process"
            while process.is_alive() and not ours.poll(0.2):
                if at.value != seen:
                    seen, since = at.value, time.monotonic()
                elif time.monotonic() - since > (3 * SECONDS if seen >= 0 else 120):
                    fate = f"hung more than {SECONDS} s"
                    process.kill()
            report = None
            with contextlib.suppress(EOFError, OSError):
                report = ours.recv() if ours.poll(0.2) else None
            process.join()
        if report is None and at.value < 0:
            raise SystemExit(f"{name}: its process did not start")
        if report is None:  # the inputs before it are run again without it
            if at.value > first:
                before = run(name, at.value - first, first)
                _add(total, before)
            total["failures"].append([at.value, fate, ""])
            first = at.value + 1
            continue
        _add(total, {**report, **report["counts"]})
        first = stop
    return total


def _add(total, part):
    for key in ("result", "refused"):
        total[key] += part[key]
    for key in ("slowest_s", "peak_MB"):
        total[key] = max(total[key], part[key])
    total["failures"] += part["failures"]


def one(name, number):
    """A single input, with its traceback."""
    from tests.fuzz.targets import TARGETS, outcome

    with tempfile.TemporaryDirectory() as folder:
        TARGETS[name].prepare(Path(folder))
        print(outcome(TARGETS[name], number, folder))


def main():
    from tests.fuzz.targets import TARGETS

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=20_000)
    options.add_argument("--target", action="append", choices=sorted(TARGETS))
    options.add_argument("--one", type=int)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    for name in (
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    ):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # arenas are address space, which the limit counts
    names = given.target or list(TARGETS)
    if given.one is not None:
        one(names[0], given.one)
        return
    from concurrent.futures import ThreadPoolExecutor

    found = {}
    with ThreadPoolExecutor(given.jobs) as pool:
        tasks = {name: pool.submit(run, name, given.count) for name in names}
        for name, task in tasks.items():
            found[name] = entry = task.result()
            print(
                f"{name}: {entry['tried']} inputs, {entry['result']} read, {entry['refused']} refused, "
                f"{len(entry['failures'])} failures, slowest {entry['slowest_s']:.1f} s, {entry['peak_MB']:.0f} MB",
                flush=True,
            )
            for failure in entry["failures"][:20]:
                print("   ", *failure, flush=True)
            if given.out is not None:
                given.out.parent.mkdir(parents=True, exist_ok=True)
                given.out.write_text(json.dumps(found, indent=1) + "\n")
    raise SystemExit(any(entry["failures"] for entry in found.values()))


if __name__ == "__main__":
    main()
