"""What the benchmarks share: taking turns, the processor's name, Markdown tables."""

import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

Clock = Callable[[], float]


def interleaved(
    jobs: dict[str, Callable[[], object]],
    rounds: int,
    clock: Clock = time.process_time,
    of: Callable[[list[float]], float] = median,
) -> dict[str, float]:
    """Median seconds of each job; the jobs take turns, so that a slow spell hits all of them.

    The process's CPU time is counted, so that other work on the machine weighs less; give `time.perf_counter` where
    several threads work.
    """
    for work in jobs.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, work in jobs.items():
            start = clock()
            work()
            times[name].append(clock() - start)
    return {name: of(values) for name, values in times.items()}


def processor() -> str:
    """Name of the processor, its cores, and whether it has AVX-512, which numpy uses where it can."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in fields.items()}
    name = values.get("model name") or platform.processor() or platform.machine()
    family = f", family {values['cpu family']} model {values['model']}" if "cpu family" in values else ""
    wide = "with" if "avx512f" in values.get("flags", "") else "without"
    return f"{name}{family}, {os.cpu_count()} cores, {wide} AVX-512"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    header = list(header)
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines) + "\n"
